from __future__ import annotations

import itertools
import math

import pytest
import torch

from detrex.layers import box_cxcywh_to_xyxy, box_iou, generalized_box_iou
from detrex.modeling.matcher import HighOrderMatcher, HungarianMatcher, assign


def problem(images: int = 2, queries: int = 6, layers: int = 2, classes: int = 3):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(layers, images, queries, classes, generator=generator)
    boxes = torch.rand(layers, images, queries, 4, generator=generator) * 0.4 + 0.3
    targets = [
        {
            "labels": torch.randint(0, classes, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.4 + 0.3,
        }
        for count in range(2, 2 + images)
    ]
    return logits, boxes, targets


def plain_cost(p: float, box: torch.Tensor, gt: torch.Tensor) -> float:
    """2 * focal + 5 * L1 - 2 * GIoU of one query and one target."""
    positive = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8)
    negative = 0.75 * p**2 * -math.log(1 - p + 1e-8)
    corners = box_cxcywh_to_xyxy(torch.stack([box, gt]))
    giou = generalized_box_iou(corners[:1], corners[1:]).item()
    return 2 * (positive - negative) + 5 * (box - gt).abs().sum().item() - 2 * giou


def test_standard_cost_equals_the_formula() -> None:
    logits, boxes, targets = problem()
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    labels, gt = targets[1]["labels"], targets[1]["boxes"]
    cost = matcher.cost(logits[:, 1], boxes[:, 1], labels, gt)
    for layer, query, target in itertools.product(range(2), range(6), range(3)):
        p = logits[layer, 1, query, labels[target]].sigmoid().item()
        expected = plain_cost(p, boxes[layer, 1, query], gt[target])
        assert cost[layer, query, target].item() == pytest.approx(expected, abs=1e-5)


def test_high_order_cost_starts_at_its_iteration() -> None:
    logits, boxes, targets = problem()
    labels, gt = targets[0]["labels"], targets[0]["boxes"]
    inputs = logits[:, 0], boxes[:, 0], labels, gt
    matcher = HighOrderMatcher(2.0, 5.0, 2.0, iou_order_alpha=3.0, matcher_change_iter=100)
    standard = HungarianMatcher(2.0, 5.0, 2.0).cost(*inputs)
    for matcher.iter in (-1, 0, 99):
        assert torch.equal(matcher.cost(*inputs), standard)
    matcher.iter = 100
    cost = matcher.cost(*inputs)
    for query, target in itertools.product(range(6), range(2)):
        p = logits[1, 0, query, labels[target]].sigmoid()
        pair = box_cxcywh_to_xyxy(torch.stack([boxes[1, 0, query], gt[target]]))
        expected = -(p * box_iou(pair[:1], pair[1:])[0] ** 3).item()
        assert cost[1, query, target].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("copies", [1, 2])
def test_assignment_has_the_least_total_cost(copies: int) -> None:
    costs = [torch.rand(2, 6, g, generator=torch.Generator().manual_seed(g)) for g in (2, 3)]
    matches = assign(costs, copies)
    for image, layer in itertools.product(range(2), range(2)):
        cost = costs[image][layer]
        columns = list(range(cost.shape[1])) * copies
        best = min(
            sum(cost[q, t].item() for q, t in zip(chosen, columns, strict=True))
            for chosen in itertools.permutations(range(6), len(columns))
        )
        mine = (matches.image == image) & (matches.layer == layer)
        target = matches.target[mine] - (2 if image else 0)
        assert cost[matches.query[mine], target].sum().item() == pytest.approx(best, abs=1e-6)
        assert sorted(target.tolist()) == sorted(columns)
        assert len(set(matches.query[mine].tolist())) == len(columns)


def test_more_targets_than_queries_and_none_at_all() -> None:
    matches = assign([torch.rand(1, 2, 5), torch.rand(1, 2, 0), torch.rand(1, 2, 3)], copies=3)
    assert matches.image.tolist() == [0, 0, 2, 2]
    assert all(target < 5 for target in matches.target[:2])
    assert all(5 <= target < 8 for target in matches.target[2:])
    assert len(assign([torch.rand(2, 3, 0)]).query) == 0


def test_images_do_not_see_each_others_targets() -> None:
    logits, boxes, targets = problem()
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    together = matcher.match(logits, boxes, targets)
    alone = matcher.match(logits[:, 1:], boxes[:, 1:], targets[1:])
    mine = together.image == 1
    assert torch.equal(together.query[mine], alone.query)
    assert torch.equal(together.target[mine] - 2, alone.target)


def test_upstream_format_gives_indices_within_the_image() -> None:
    logits, boxes, targets = problem()
    matcher = HungarianMatcher(2.0, 5.0, 2.0)
    pairs = matcher({"pred_logits": logits[0], "pred_boxes": boxes[0]}, targets)
    matches = matcher.match(logits[:1], boxes[:1], targets)
    assert [len(query) for query, _ in pairs] == [2, 3]
    assert torch.equal(torch.cat([q for q, _ in pairs]), matches.query)
    assert sorted(pairs[1][1].tolist()) == [0, 1, 2]
