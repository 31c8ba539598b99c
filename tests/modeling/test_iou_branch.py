"""The IoU branch: its loss, its share of the score, and that it is absent when off."""

from __future__ import annotations

import math

import pytest
import torch

from detrex.layers import box_cxcywh_to_xyxy, overlaps
from detrex.modeling import HungarianMatcher, SetCriterion
from detrex.modeling.criterion import Predictions
from detrex.modeling.iou_branch import fuse_iou
from detrex.modeling.queries import QueryGroup
from tests.models import image, tiny
from tests.test_compatibility import METHODS

CONDITIONAL = "projects/conditional_detr/configs/conditional_detr_r50_50ep.py"
ANCHOR = "projects/anchor_detr/configs/anchor_detr_r50_50ep.py"
RANK_DINO = "projects/rank_detr/configs/rank_dino_r50_4scale_12ep.py"
DETR = "projects/detr/configs/detr_r50_300ep.py"
BATCH = [image(48, 64, 2, seed=3), image(64, 48, 0, seed=4)]
ON = {"iou_branch": True, "criterion__weight_dict__loss_iou": 1.0}


@pytest.mark.parametrize("copies", [1, 2])
def test_matched_queries_predict_their_iou(copies: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 8, 4, generator=generator)
    boxes = torch.rand(2, 1, 8, 4, generator=generator) * 0.4 + 0.3
    iou_logits = torch.randn(2, 1, 8, generator=generator, requires_grad=True)
    target = {"labels": torch.tensor([1, 3]), "boxes": boxes[0, 0, :2] * 0.9}
    criterion = SetCriterion(4, HungarianMatcher(), {})
    group = QueryGroup(size=8, copies=copies)
    losses = criterion.losses_of_sets(
        [Predictions(logits, boxes, group, iou_logits=iou_logits)], [target]
    )
    repeated = {k: torch.cat([v] * copies) for k, v in target.items()}
    for layer, name in enumerate(("loss_iou_0", "loss_iou")):
        outputs = {"pred_logits": logits[layer], "pred_boxes": boxes[layer]}
        total = 0.0
        for query, index in zip(*criterion.matcher(outputs, [repeated])[0], strict=True):
            box, gt = boxes[layer, 0, query], repeated["boxes"][index]
            iou, _, _ = overlaps(box_cxcywh_to_xyxy(box), box_cxcywh_to_xyxy(gt))
            u = 1 / (1 + math.exp(-iou_logits[layer, 0, query].item()))
            total -= iou.item() * math.log(u) + (1 - iou.item()) * math.log(1 - u)
        assert losses[name].item() == pytest.approx(total / (2 * copies), rel=1e-5)
    losses["loss_iou"].backward()
    assert (iou_logits.grad[1] != 0).sum() == 2 * copies and not iou_logits.grad[0].any()


def test_the_loss_leaves_the_boxes_alone() -> None:
    boxes = torch.full((1, 1, 3, 4), 0.5, requires_grad=True)
    set_ = Predictions(torch.zeros(1, 1, 3, 2), boxes, QueryGroup(size=3))
    set_.iou_logits = torch.zeros(1, 1, 3, requires_grad=True)
    target = {"labels": torch.tensor([0]), "boxes": torch.tensor([[0.4, 0.4, 0.3, 0.3]])}
    criterion = SetCriterion(2, HungarianMatcher(), {})
    criterion.losses_of_sets([set_], [target])["loss_iou"].backward()
    assert boxes.grad is None and set_.iou_logits.grad.any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_score_is_a_geometric_mean(weight: float) -> None:
    logits = torch.tensor([[[-6.0, 0.0, 3.0], [1.0, -50.0, 50.0]]])
    iou_logits = torch.tensor([[2.0, -1.0]])
    p, u = logits.double().sigmoid(), iou_logits.double().sigmoid()[..., None]
    fused = fuse_iou(logits, iou_logits, weight)
    expected = (p ** (1 - weight) * u**weight).float()
    torch.testing.assert_close(fused.sigmoid(), expected, rtol=1e-4, atol=0)
    assert fuse_iou(logits * 1e3, iou_logits * 1e3, weight).isfinite().all()


@pytest.mark.parametrize("config", [*METHODS.values(), CONDITIONAL, ANCHOR, RANK_DINO])
def test_methods_train_and_rank_with_it(config: str) -> None:
    plain, model = tiny(config), tiny(config, **ON).train()
    added = model.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"iou_embed.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    losses = model(BATCH)
    assert losses["loss_iou"] > 0 and losses["loss_iou_0"] > 0
    sum(losses.values()).backward()
    assert all(head.weight.grad.any() for head in model.iou_embed)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)

    model.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for head in model.iou_embed:  # an IoU of 0.5 for every query
            head.weight.zero_()
            head.bias.zero_()
        before, after = (m.eval()(BATCH)[0]["instances"] for m in (plain, model))
    expected = before.scores**0.7 * 0.5**0.3
    torch.testing.assert_close(after.scores, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(after.pred_boxes.tensor, before.pred_boxes.tensor)


def test_without_fusing_it_does_not_touch_the_detections() -> None:
    config = METHODS["ddq"]
    plain, model = tiny(config).eval(), tiny(config, **ON, iou_weight=0.0).eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        before, after = (m(BATCH)[0]["instances"] for m in (plain, model))
    assert torch.equal(after.scores, before.scores)
    assert torch.equal(after.pred_classes, before.pred_classes)
