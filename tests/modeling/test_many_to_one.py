"""k-to-one matching, prime-sample weighting and IoU-aware BCE against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch

from detrex.layers import box_cxcywh_to_xyxy, box_iou, generalized_box_iou
from detrex.modeling.criterion import ManyToOneCriterion, Predictions
from detrex.modeling.criterion.many_to_one import rank_in_bag
from detrex.modeling.matcher import Assignment, HungarianMatcher, assign
from detrex.modeling.queries import QueryGroup

WEIGHTS = {"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def criterion(**options) -> ManyToOneCriterion:
    options = {"match_num": [2, 3, 1], **options}
    return ManyToOneCriterion(4, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS, **options)


def predictions(layers: int, queries: int, counts=(3, 1), group=None):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(layers, len(counts), queries, 4, generator=generator)
    boxes = torch.rand(layers, len(counts), queries, 4, generator=generator) * 0.4 + 0.3
    targets = [
        {
            "labels": torch.randint(0, 4, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
        }
        for count in counts
    ]
    group = group or QueryGroup(size=queries)
    return Predictions(logits.requires_grad_(), boxes.requires_grad_(), group), targets


def plain(crit: ManyToOneCriterion, logits, boxes, targets, k: int) -> tuple[float, float, float]:
    """IA-BCE, L1 and GIoU of one layer (Align-DETR, equations 4 to 7), over its objects."""
    matches = crit.matcher.match(logits[None], boxes[None], targets, k=[k])
    labels = torch.cat([t["labels"] for t in targets]).tolist()
    gts = torch.cat([t["boxes"] for t in targets])
    bags: dict[int, list] = {}
    for image, query, target in zip(matches.image, matches.query, matches.target, strict=True):
        box, gt = box_cxcywh_to_xyxy(boxes[image, query]), box_cxcywh_to_xyxy(gts[target])
        u = box_iou(box[None], gt[None])[0].item()
        giou = generalized_box_iou(box[None], gt[None]).item()
        s = logits[image, query, labels[target]].sigmoid().item()
        t = max(s**0.25 * u**0.75, 0.01)
        l1 = (boxes[image, query] - gts[target]).abs().sum().item()
        bags.setdefault(target.item(), []).append((t, image.item(), query.item(), l1, 1 - giou))
    soft, l1_sum, giou_sum = {}, 0.0, 0.0
    for target, bag in bags.items():
        for rank, (t, image, query, l1, giou) in enumerate(sorted(bag, reverse=True)):
            weight = math.exp(-rank / crit.tau)
            soft[image, query, labels[target]] = weight * t
            l1_sum += weight * l1
            giou_sum += weight * giou
    cls = 0.0
    for index, p in zip(
        ((i, q, c) for i in range(len(logits)) for q in range(logits.shape[1]) for c in range(4)),
        logits.sigmoid().flatten().tolist(),
        strict=True,
    ):
        if index in soft:
            t = soft[index]
            cls -= t * math.log(p) + (1 - t) * math.log(1 - p)
        else:
            cls -= p**2 * math.log(1 - p)
    count = len(labels)
    return cls / count, l1_sum / count, giou_sum / count


def test_losses_equal_the_equations_in_every_layer() -> None:
    crit = criterion()
    set_, targets = predictions(2, 12)
    losses = crit.losses_of_sets([set_], targets)
    for layer, number, k in ((0, "_0", 3), (1, "", 1)):
        cls, l1, giou = plain(crit, set_.logits[layer], set_.boxes[layer], targets, k)
        assert losses[f"loss_class{number}"].item() == pytest.approx(cls, rel=1e-5)
        assert losses[f"loss_bbox{number}"].item() == pytest.approx(l1, rel=1e-5)
        assert losses[f"loss_giou{number}"].item() == pytest.approx(giou, rel=1e-5)


def test_proposals_take_the_first_entry_and_other_groups_their_own() -> None:
    crit = criterion()
    proposals, targets = predictions(1, 12)
    proposals = Predictions.of_encoder(proposals.logits[0], proposals.boxes[0], False)
    cls, l1, _ = plain(crit, proposals.logits[0], proposals.boxes[0], targets, 2)
    losses = crit.losses_of_sets([proposals], targets)
    assert losses["loss_class_enc"].item() == pytest.approx(cls, rel=1e-5)
    assert losses["loss_bbox_enc"].item() == pytest.approx(l1, rel=1e-5)
    hybrid, _ = predictions(2, 12, group=QueryGroup("_one2many", size=12, copies=2))
    assert crit.problems(hybrid, targets)[1:] == ([2, 2], None)


def test_each_layer_has_its_k() -> None:
    costs = [torch.rand(3, 20, 2), torch.rand(3, 20, 4)]
    matches = assign(costs, per_layer=[4, 2, 1])
    for layer, k in enumerate([4, 2, 1]):
        targets = matches.target[matches.layer == layer]
        # four targets of the second image leave room for 20 / 2 / 4 queries each at most
        assert torch.bincount(targets).tolist() == [k, k, *[min(k, 2)] * 4]
        queries = matches.query[(matches.layer == layer) & (matches.image == 1)]
        assert len(queries.unique()) == len(queries)


def test_a_crowded_image_lowers_k_for_itself_only() -> None:
    crowded, sparse = torch.rand(1, 8, 6), torch.rand(1, 8, 2)
    for costs in ([crowded, sparse], [sparse, crowded]):
        matches = assign(costs, per_layer=[2])
        count = torch.bincount(matches.image).tolist()
        assert count == [c.shape[-1] * (1 if c is crowded else 2) for c in costs]


def test_rank_in_bag() -> None:
    score = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.4, 0.5])
    bag = torch.tensor([7, 2, 7, 2, 7, 9])
    assert rank_in_bag(score, bag).tolist() == [2, 0, 0, 1, 1, 0]
    assert rank_in_bag(score[:0], bag[:0]).tolist() == []


@pytest.mark.parametrize("kind", ["ia_bce_loss", "giou_focal_loss", "focal_loss"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_huge_logits_stay_finite(kind: str, sign: int) -> None:
    set_, targets = predictions(2, 12)
    with torch.no_grad():
        set_.logits.copy_(torch.where(set_.logits > 0, 50.0, -50.0) * sign)
    losses = criterion(loss_class_type=kind).losses_of_sets([set_], targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert set_.logits.grad.isfinite().all() and set_.boxes.grad.isfinite().all()


def test_too_few_entries_are_named() -> None:
    set_, targets = predictions(3, 12)
    with pytest.raises(ValueError, match=r"match_num needs .* 3 layers' entries, got \[2, 3, 1\]"):
        criterion().losses_of_sets([set_], targets)


def test_each_block_of_a_group_has_the_queries_of_its_layer() -> None:
    set_, targets = predictions(2, 12, group=QueryGroup(size=12, blocks=2, copies=2))
    crit = criterion(match_num=[2, 2, 1])
    (matches,) = Assignment([crit.problems(set_, targets)]).solve()
    for block, half in enumerate((slice(0, 6), slice(6, 12))):
        parts = (set_.logits[:, :, half], set_.boxes[:, :, half])
        alone = crit.matcher.match(*parts, targets, k=[2, 1])
        for layer in range(2):
            mine = matches.layer == 2 * layer + block
            assert torch.equal(matches.query[mine], alone.query[alone.layer == layer])
            assert torch.equal(matches.target[mine], alone.target[alone.layer == layer])
    assert all(loss.isfinite() for loss in crit.losses_of_sets([set_], targets).values())
