from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from detrex.modeling import HungarianMatcher, SetCriterion
from detrex.modeling.criterion import Predictions, TwoStageCriterion
from detrex.modeling.queries import QueryGroup

WEIGHTS = {"loss_class": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def criterion(**options) -> SetCriterion:
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    return SetCriterion(4, matcher, WEIGHTS, **options)


def predictions(counts=(3, 1), group=None, layers=2, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(layers, len(counts), 8, 4, generator=generator) * scale
    boxes = torch.rand(layers, len(counts), 8, 4, generator=generator) * 0.4 + 0.3
    targets = [
        {
            "labels": torch.randint(0, 4, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
        }
        for count in counts
    ]
    group = group or QueryGroup(size=8)
    return Predictions(logits.requires_grad_(), boxes.requires_grad_(), group), targets


def proposals(agnostic: bool):
    set_, targets = predictions(layers=1)
    return Predictions.of_encoder(set_.logits[0], set_.boxes[0], agnostic), targets


def bce(p: float, target: float) -> float:
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def plain_giou(box: list[float], gt: list[float]) -> float:
    """Generalized IoU of two boxes cxcywh."""
    inner = outer = 1.0
    for axis in (0, 1):
        low = sorted(x[axis] - x[axis + 2] / 2 for x in (box, gt))
        high = sorted(x[axis] + x[axis + 2] / 2 for x in (box, gt))
        inner *= max(high[0] - low[1], 0.0)
        outer *= high[1] - low[0]
    union = box[2] * box[3] + gt[2] * gt[3] - inner
    return inner / union - (outer - union) / outer


def plain_cost(logits: list[float], box: list[float], label: int, gt: list[float]) -> float:
    """The cost of a query and a target, with the factors of :func:`criterion`'s matcher."""
    p = 1 / (1 + math.exp(-logits[label]))
    focal = 0.25 * (1 - p) ** 2 * bce(p, 1.0) - 0.75 * p**2 * bce(p, 0.0)
    l1 = sum(abs(x - y) for x, y in zip(box, gt, strict=True))
    return 2.0 * focal + 5.0 * l1 - 2.0 * plain_giou(box, gt)


def plain_assignment(logits, boxes, targets) -> list[dict[int, int]]:
    """Target of each matched query, for every image of a layer: the least sum of costs."""
    assignment = []
    for image, target in enumerate(targets):
        labels, gt = target["labels"].tolist(), target["boxes"].tolist()
        queries = zip(logits[image].tolist(), boxes[image].tolist(), strict=True)
        costs = [[plain_cost(*q, *t) for t in zip(labels, gt, strict=True)] for q in queries]
        pairs = linear_sum_assignment(np.array(costs).reshape(len(logits[image]), len(gt)))
        assignment.append(dict(zip(*(x.tolist() for x in pairs), strict=True)))
    return assignment


def plain_losses(logits, boxes, targets, kind: str, copies: int = 1, assign=plain_assignment):
    """The losses of a layer, image by image, query by query, class by class."""
    sums = dict(loss_class=0.0, loss_bbox=0.0, loss_giou=0.0)
    targets = [{k: v.repeat(copies, *[1] * (v.dim() - 1)) for k, v in t.items()} for t in targets]
    for image, target_of in enumerate(assign(logits, boxes, targets)):
        for query in range(logits.shape[1]):
            label, t = None, 0.0
            if query in target_of:
                label = targets[image]["labels"][target_of[query]].item()
                box = boxes[image, query].tolist()
                gt = targets[image]["boxes"][target_of[query]].tolist()
                giou = plain_giou(box, gt)
                sums["loss_bbox"] += sum(abs(x - y) for x, y in zip(box, gt, strict=True))
                sums["loss_giou"] += 1 - giou
                t = (giou + 1) / 2 if kind == "giou_focal_loss" else 1.0
            for cls in range(logits.shape[2]):
                p = logits[image, query, cls].sigmoid().item()
                if cls == label:
                    sums["loss_class"] += 0.25 * abs(t - p) ** 2 * bce(p, t)
                else:
                    sums["loss_class"] += 0.75 * p**2 * bce(p, 0.0)
    count = max(sum(len(t["labels"]) for t in targets), 1)
    return {name: value / count for name, value in sums.items()}


@pytest.mark.parametrize("kind", ["focal_loss", "giou_focal_loss"])
@pytest.mark.parametrize("copies", [1, 2])
def test_all_layers_at_once_equal_a_plain_loop(kind: str, copies: int) -> None:
    group = QueryGroup("_one2many", size=8, copies=copies)
    crit = criterion(loss_class_type=kind)
    set_, targets = predictions(group=group)
    losses = crit.losses_of_sets([set_], targets)
    for layer, number in ((0, "_0"), (1, "")):
        plain = plain_losses(set_.logits[layer], set_.boxes[layer], targets, kind, copies)
        for name, value in plain.items():
            key = f"{name}{number}_one2many"
            assert losses.pop(key).item() == pytest.approx(value, rel=1e-5), key
    assert not losses


def test_proposals_count_as_class_zero_with_plain_focal_loss() -> None:
    crit = criterion(loss_class_type="giou_focal_loss")
    set_, targets = proposals(agnostic=True)
    losses = crit.losses_of_sets([set_], targets)
    zeroed = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
    plain = plain_losses(set_.logits[0], set_.boxes[0], zeroed, "focal_loss")
    for name, value in plain.items():
        assert losses[f"{name}_enc"].item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_images_without_objects_keep_the_graph(counts: tuple[int, int]) -> None:
    set_, targets = predictions(counts=counts)
    losses = criterion().losses_of_sets([set_], targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert set_.logits.grad.abs().sum() > 0
    assert (set_.boxes.grad.abs().sum() > 0) == (sum(counts) > 0)


@pytest.mark.parametrize("kind", ["focal_loss", "giou_focal_loss"])
def test_huge_logits_stay_finite(kind: str) -> None:
    set_, targets = predictions()
    with torch.no_grad():
        set_.logits.copy_(torch.where(set_.logits > 0, 50.0, -50.0))
    losses = criterion(loss_class_type=kind).losses_of_sets([set_], targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert set_.logits.grad.isfinite().all()


def test_the_order_of_the_batch_does_not_matter() -> None:
    crit = criterion()
    set_, targets = predictions()
    swapped = Predictions(set_.logits.flip(1), set_.boxes.flip(1), set_.group)
    first, second = (
        crit.losses_of_sets([set_], targets),
        crit.losses_of_sets([swapped], targets[::-1]),
    )
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss)


def test_upstream_dict_gives_the_same_losses() -> None:
    crit = criterion()
    set_, targets = predictions()
    encoder_set, _ = proposals(agnostic=True)
    layers = [
        {"pred_logits": x, "pred_boxes": b} for x, b in zip(set_.logits, set_.boxes, strict=True)
    ]
    encoder = {"pred_logits": encoder_set.logits[0], "pred_boxes": encoder_set.boxes[0]}
    outputs = {**layers[1], "aux_outputs": layers[:1], "enc_outputs": encoder}
    losses, indices = crit(outputs, targets, return_indices=True)
    assert losses == crit.losses_of_sets([set_, encoder_set], targets)
    assert len(indices) == 2 and len(indices[0]) == 2


@pytest.mark.parametrize("binary", [False, True])
def test_proposals_of_an_upstream_dict_answer_for_the_labels_that_the_criterion_says(
    binary: bool,
) -> None:
    crit = TwoStageCriterion(
        4, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS, two_stage_binary_cls=binary
    )
    set_, targets = predictions(layers=1)
    encoder_set, _ = proposals(agnostic=binary)
    outputs = [{"pred_logits": s.logits[0], "pred_boxes": s.boxes[0]} for s in (set_, encoder_set)]
    found = crit({**outputs[0], "enc_outputs": outputs[1]}, targets)
    assert found == crit.losses_of_sets([set_, encoder_set], targets)


def test_softmax_loss_of_a_two_stage_criterion() -> None:
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    crit = TwoStageCriterion(4, matcher, WEIGHTS, loss_class_type="ce_loss")
    assert crit.empty_weight.tolist() == pytest.approx([1, 1, 1, 1, 0.1])


class BestLogit(SetCriterion):
    """A loss of all logits of a layer, as ranking losses are."""

    def class_loss(self, logits, matches, labels, quality):
        return logits.flatten(1).amax(1) + 0 * quality.iou.sum()


def test_a_criterion_replaces_the_class_loss_of_the_queries_but_not_of_the_proposals() -> None:
    set_, targets = predictions()
    encoder_set, _ = proposals(agnostic=True)
    crit = BestLogit(4, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS)
    losses = crit.losses_of_sets([set_, encoder_set], targets)
    for layer, name in enumerate(("loss_class_0", "loss_class")):
        best = set_.logits[layer].amax().item()
        assert losses[name].item() == pytest.approx(best / 4)  # objects
    usual = criterion().losses_of_sets([set_, encoder_set], targets)
    assert losses["loss_class_enc"] == usual["loss_class_enc"]
    assert losses["loss_bbox_0"] == usual["loss_bbox_0"]


def test_a_set_may_have_a_class_loss_of_its_own() -> None:
    group = QueryGroup("_dn", 8)
    (queries, targets), (known, _), (encoder_set, _) = (
        predictions(),
        predictions(group=group),
        proposals(agnostic=True),
    )
    hybrid = replace(encoder_set, group=QueryGroup("_enc_hybrid", 8))
    sets = [queries, known, encoder_set, hybrid]
    everywhere = {
        name: criterion(loss_class_type=name, set_losses={}).losses_of_sets(sets, targets)
        for name in ("focal_loss", "giou_focal_loss", "mal_loss")
    }
    usual = criterion(loss_class_type="giou_focal_loss").losses_of_sets(sets, targets)
    set_losses = {"_dn": "focal_loss", "_enc": "mal_loss"}
    chosen = criterion(loss_class_type="giou_focal_loss", set_losses=set_losses)
    losses = chosen.losses_of_sets(sets, targets)
    for name in ("loss_class", "loss_class_0"):
        assert losses[name] == usual[name] == everywhere["giou_focal_loss"][name]
    assert losses["loss_class_dn"] == everywhere["focal_loss"]["loss_class_dn"]
    assert usual["loss_class_dn"] == everywhere["giou_focal_loss"]["loss_class_dn"]
    for name in ("loss_class_enc", "loss_class_enc_hybrid"):
        assert losses[name] == everywhere["mal_loss"][name]
        assert usual[name] == everywhere["focal_loss"][name]


def test_a_loss_takes_the_factor_of_its_nearest_name() -> None:
    crit = criterion()
    crit.weight_dict = {"loss_class": 2.0, "loss_class_0": 3.0}
    names = ["loss_class", "loss_class_0", "loss_class_1", "loss_class_0_one2many"]
    weighted = crit.weighted(dict.fromkeys(names, torch.ones(())))
    assert [weighted[name].item() for name in names] == [2.0, 3.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="no factor for 'loss_bbox_0'"):
        crit.weighted({"loss_bbox_0": torch.ones(())})
