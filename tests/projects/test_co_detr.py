"""Co-DETR: queries of the heads' positives, their losses, and inference equal to the base's."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou

from detrex.inspect.analysis import flops
from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.criterion import Predictions
from projects.co_detr.modeling import PositiveQueries
from projects.co_detr.modeling.assigned import Assigned, choose, count_positives, pixel_instances
from projects.deformable_detr.modeling import DeformableDETR
from projects.dino.modeling import DINO
from tests.models import ROOT, image, shrink, tiny

DEFORMABLE = "projects/co_detr/configs/co_deformable_detr_r50_1x_coco.py"
DINO_5SCALE = "projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py"
SAMPLE = "projects/co_detr/configs/co_dino_efficientnet_lite0_sample_data.py"
BASES = {DEFORMABLE: DeformableDETR, DINO_5SCALE: DINO}
BATCH = [image(64, 96, 3, seed=1), image(80, 48, 2, seed=2)]


def test_targets_become_pixels_with_a_number_of_their_own() -> None:
    targets = [
        {
            "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4]]),
            "labels": torch.tensor([3]),
            "size": (50, 100),
        },
        {
            "boxes": torch.tensor([[0.5, 0.25, 1.0, 0.5]]),
            "labels": torch.tensor([1]),
            "size": (40, 80),
        },
    ]
    first, second = pixel_instances(targets)
    torch.testing.assert_close(first.gt_boxes.tensor, torch.tensor([[40.0, 15.0, 60.0, 35.0]]))
    torch.testing.assert_close(second.gt_boxes.tensor, torch.tensor([[0.0, 0.0, 80.0, 20.0]]))
    assert (first.gt_index.item(), second.gt_index.item()) == (0, 1)


@pytest.mark.parametrize(("limit", "expected"), [(300, 4), (3, 3)])
def test_all_images_get_as_many_queries_positives_first(limit: int, expected: int) -> None:
    torch.manual_seed(0)
    targets = [torch.tensor([-1, 2, -1, 0, 1, 1, -1]), torch.tensor([-1, -1, 3, -1, -1])]
    candidates = [Assigned(torch.rand(len(t), 4), torch.rand(len(t), 8), t) for t in targets]
    chosen = choose(candidates, count_positives([candidates])[0], limit)
    assert chosen.target.shape == (2, expected)
    assert (chosen.target[0] >= 0).all()
    assert chosen.target[1].tolist() == [3] + [-1] * (expected - 1)
    for image_, own in enumerate(candidates):
        for query in range(expected):
            row = (own.boxes == chosen.boxes[image_, query]).all(1).nonzero().item()
            assert torch.equal(own.features[row], chosen.features[image_, query])
            assert own.target[row] == chosen.target[image_, query]


@cache
def made(config: str) -> tuple:
    """A model in training, its memory, targets, queries and groups by name."""
    model = tiny(config).train()
    with torch.no_grad():
        memory = model.encode(model.preprocess(BATCH))
        targets = model.targets(BATCH)
        queries = model.make_queries(memory, targets)
    return model, memory, targets, queries, {group.name: group for group in queries.groups}


@pytest.mark.parametrize("config", BASES)
def test_a_positive_query_answers_for_the_box_it_was_assigned(config: str) -> None:
    _, _, targets, queries, groups = made(config)
    boxes = torch.cat([t["boxes"] for t in targets])
    start = (
        sum(group.size for group in queries.groups) - groups["_rcnn"].size - groups["_atss"].size
    )
    assign = groups["_rcnn"].assign
    for b, query, target in zip(assign.image, assign.query, assign.target, strict=True):
        assert (target < 3) == (b == 0)
        pair = [
            box_cxcywh_to_xyxy(x[None]) for x in (queries.boxes[b, start + query], boxes[target])
        ]
        assert box_iou(*pair) >= 0.5 - 1e-4
    assert len(assign.image) == round(groups["_rcnn"].copies * 5) > 0


@pytest.mark.parametrize("config", BASES)
def test_queries_of_a_head_see_only_each_other(config: str) -> None:
    model, memory, _, queries, groups = made(config)
    atss = groups["_atss"].size
    with torch.no_grad():
        before = model.decode(queries, memory)
        content = queries.content.clone()
        content[:, -atss:] += 1.0
        after = model.decode(replace(queries, content=content), memory)
    assert torch.equal(before.logits[:, :, :-atss], after.logits[:, :, :-atss])
    assert not torch.equal(before.logits[:, :, -atss:], after.logits[:, :, -atss:])


def test_content_is_the_sum_of_place_and_feature() -> None:
    made_by = PositiveQueries(256, with_position=False)
    boxes, features = torch.rand(1, 3, 4), torch.randn(1, 3, 256)
    content = made_by(boxes, features, None).content
    index = torch.arange(128) // 2 * 2
    angle = boxes[..., None] * 2 * math.pi / 10000 ** (index / 128)
    sine = torch.where(torch.arange(128) % 2 == 0, angle.sin(), angle.cos()).flatten(2)

    def linear_norm(layers: nn.Sequential, x: Tensor) -> Tensor:
        x = x @ layers[0].weight.T + layers[0].bias
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * layers[1].weight + layers[1].bias

    expected = linear_norm(made_by.place, sine) + linear_norm(made_by.feature, features)
    torch.testing.assert_close(content, expected, atol=1e-5, rtol=1e-5)


def test_losses_of_positives_are_divided_by_their_number() -> None:
    model, _, targets, _, groups = made(DEFORMABLE)
    group = groups["_atss"]
    logits, boxes = torch.randn(1, 2, group.size, 5), torch.rand(1, 2, group.size, 4) * 0.4 + 0.3
    found = model.criterion.losses_of_sets([Predictions(logits, boxes, group)], targets)
    gt = torch.cat([t["boxes"] for t in targets])
    labels = torch.cat([t["labels"] for t in targets])
    p = logits[0].sigmoid()
    focal = -(0.75 * p**2 * (1 - p).log()).sum()
    l1 = giou = 0.0
    for b, query, target in zip(*group.assign[1:], strict=True):
        s = p[b, query, labels[target]]
        focal += 0.75 * s**2 * (1 - s).log() - 0.25 * (1 - s) ** 2 * s.log()
        l1 += (boxes[0, b, query] - gt[target]).abs().sum()
        pair = [box_cxcywh_to_xyxy(x[None]) for x in (boxes[0, b, query], gt[target])]
        giou += 1 - generalized_box_iou(*pair)[0, 0]
    count = len(group.assign.image)
    assert count > 5  # more than one positive for a target
    torch.testing.assert_close(found["loss_class_atss"], focal / count)
    torch.testing.assert_close(found["loss_bbox_atss"], l1 / count)
    torch.testing.assert_close(found["loss_giou_atss"], giou / count, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", BASES)
def test_inference_is_that_of_the_base(config: str) -> None:
    """Same keys, same detections, same FLOPs; no key of the heads is read."""
    cfg = LazyConfig.load(str(ROOT / config)).model
    shrink(cfg)
    ours = instantiate(copy.deepcopy(cfg)).eval()
    cfg._target_ = BASES[config]
    cfg.pop("auxiliary")
    base = instantiate(cfg).eval()
    shared = {k: v for k, v in ours.state_dict().items() if not k.startswith("auxiliary.")}
    assert list(shared) == list(base.state_dict())
    base.load_state_dict(shared)
    with torch.no_grad():
        for parameter in ours.auxiliary.parameters():
            parameter.fill_(torch.nan)
        for mine, other in zip(ours(BATCH), base(BATCH), strict=True):
            for field, value in mine["instances"].get_fields().items():
                expected = other["instances"].get(field)
                same = value.tensor.equal(expected.tensor) if field == "pred_boxes" else None
                assert value.equal(expected) if same is None else same
    assert flops(ours, BATCH[:1]) == flops(base, BATCH[:1]) > 0


@pytest.mark.parametrize("config", [DEFORMABLE, SAMPLE])
@pytest.mark.parametrize("counts", [(3, 1), (0, 0)])
def test_every_parameter_gets_a_finite_gradient(config: str, counts: tuple[int, int]) -> None:
    model = tiny(config).train()
    losses = model([image(64, 96, n, seed=n) for n in counts])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert not name.startswith("auxiliary") or not any(counts) or parameter.grad.any(), name


@pytest.mark.parametrize(("dropped", "left"), [(0, "atss"), (1, "rcnn")])
def test_a_head_can_be_left_out(dropped: int, left: str) -> None:
    cfg = LazyConfig.load(str(ROOT / SAMPLE)).model
    shrink(cfg)
    cfg.auxiliary.heads.pop(dropped)
    losses = instantiate(cfg).train()(BATCH)
    own = {name.split("_")[-1] for name in losses} & {"atss", "rcnn"}
    assert own == {left} and f"loss_{left}_cls" in losses


def test_the_heads_losses_count_once_per_decoder_layer() -> None:
    torch.manual_seed(0)
    model, memory, targets, _, _ = made(SAMPLE)
    torch.manual_seed(1)
    rcnn, atss = model.auxiliary(memory, targets)
    torch.manual_seed(1)
    levels, gt = model.auxiliary.levels(memory), pixel_instances(targets)
    assert [tuple(level.shape[2:]) for level in levels] == [*memory.shapes, (2, 2)]
    for queries, head in ((rcnn, "rcnn"), (atss, "atss")):
        plain = model.auxiliary.heads[head](levels, gt)[0]
        for name, value in plain.items():
            torch.testing.assert_close(queries.losses[name], 2.0 * 2 * value)


def test_the_loss_falls() -> None:
    model = tiny(SAMPLE).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for step in range(5):
        torch.manual_seed(step)
        losses = model(BATCH)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.9 * totals[0]
