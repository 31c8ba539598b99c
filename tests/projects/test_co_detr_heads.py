"""The heads of Co-DETR: ATSS' assignment and losses by hand, what both hand to the decoder."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou, roi_align

from projects.co_detr.modeling import ATSSHead, FasterRCNNHead, atss_assign
from projects.co_detr.modeling.anchors import AnchorGenerator, WaitlessMatcher

STRIDES = (8, 16)
GT = torch.tensor([[4.0, 6.0, 40.0, 30.0], [20.0, 10.0, 60.0, 60.0], [1.0, 1.0, 9.0, 9.0]])


def grid(height: int, width: int, stride: int, side: float) -> Tensor:
    """Square anchors (S, 4) around the centres of cells, row by row."""
    centres = [
        ((x + 0.5) * stride, (y + 0.5) * stride) for y in range(height) for x in range(width)
    ]
    return torch.tensor(
        [[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres]
    )


def instances(boxes: Tensor, labels: list[int]) -> Instances:
    index = torch.arange(len(boxes))
    return Instances(
        (64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.tensor(labels).long(), gt_index=index
    )


def by_hand(gt: list[list[float]], levels: list[list[list[float]]], k: int) -> list[int]:
    """Algorithm 1 of ATSS, anchor by anchor."""
    anchors = [a for level in levels for a in level]

    def centre(b: list[float]) -> tuple[float, float]:
        return (b[0] + b[2]) / 2, (b[1] + b[3]) / 2

    def iou(a: list[float], b: list[float]) -> float:
        return box_iou(torch.tensor([a]), torch.tensor([b])).item()

    owner, best = [-1] * len(anchors), [0.0] * len(anchors)
    for g, box in enumerate(gt):
        candidates, first = [], 0
        for level in levels:
            near = sorted(range(len(level)), key=lambda i: math.dist(centre(level[i]), centre(box)))
            candidates += [first + i for i in near[:k]]
            first += len(level)
        ious = [iou(anchors[i], box) for i in candidates]
        mean = sum(ious) / len(ious)
        std = (sum((x - mean) ** 2 for x in ious) / (len(ious) - 1)) ** 0.5
        for i, value in zip(candidates, ious, strict=True):
            x, y = centre(anchors[i])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if value >= mean + std and inside and value > best[i]:
                owner[i], best[i] = g, value
    return owner


@pytest.mark.parametrize("seed", range(4))
def test_atss_assigns_as_algorithm_1_does_by_hand(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(6, 2, generator=generator) * 50
    gt = torch.cat([low, low + 6 + torch.rand(6, 2, generator=generator) * 50], 1)
    levels = [grid(8, 8, 8, 61.0), grid(4, 4, 16, 101.0), grid(2, 2, 32, 203.0)]
    expected = by_hand(gt.tolist(), [level.tolist() for level in levels], k=5)
    assert atss_assign(gt, levels, topk=5).tolist() == expected
    assert len(set(expected)) > 3
    assert (atss_assign(gt[:0], levels) == -1).all()


def test_atss_losses_are_the_plain_formulas() -> None:
    torch.manual_seed(0)
    head = ATSSHead(3, 32, STRIDES)
    anchors = torch.cat([grid(4, 4, 16, 64.0)])
    gt = [instances(GT[:2], [2, 0]), instances(GT[:0], [])]
    target = torch.full((2, 16), -1)
    target[0, 5], target[0, 6], target[0, 10] = 0, 1, 1
    logits, deltas, centre = (
        torch.randn(2, 16, 3),
        torch.randn(2, 16, 4) * 0.3,
        torch.randn(2, 16, 1),
    )
    found = head.losses(logits, deltas, centre, anchors, target, gt)
    focal = giou = bce = weight = 0.0
    for b in range(2):
        for i in range(16):
            g = target[b, i].item()
            for k, x in enumerate(logits[b, i]):
                p = x.sigmoid()
                positive = g >= 0 and gt[b].gt_classes[g] == k
                focal -= 0.25 * (1 - p) ** 2 * p.log() if positive else 0.75 * p**2 * (1 - p).log()
            if g < 0:
                continue
            x0, y0, x1, y1 = anchors[i].tolist()
            cx, cy, side = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0
            dx, dy, dw, dh = (deltas[b, i] / torch.tensor([10, 10, 5, 5])).tolist()
            w, h = side * math.exp(dw), side * math.exp(dh)
            cx2, cy2 = cx + dx * side, cy + dy * side
            box = torch.tensor([[cx2 - w / 2, cy2 - h / 2, cx2 + w / 2, cy2 + h / 2]])
            left, top, right, bottom = cx - GT[g, 0], cy - GT[g, 1], GT[g, 2] - cx, GT[g, 3] - cy
            c = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
            c = c**0.5
            giou += c * (1 - generalized_box_iou(box, GT[g : g + 1])[0, 0])
            s = centre[b, i, 0].sigmoid()
            bce -= c * s.log() + (1 - c) * (1 - s).log()
            weight += c
    torch.testing.assert_close(found["loss_atss_cls"], focal / 3)
    torch.testing.assert_close(found["loss_atss_box"], 2 * giou / max(weight, 1))
    torch.testing.assert_close(found["loss_atss_centre"], bce / 3)


def test_atss_hands_over_anchors_with_their_tokens() -> None:
    head = ATSSHead(3, 32, STRIDES)
    levels = [torch.randn(2, 32, 8, 8), torch.randn(2, 32, 4, 4)]
    gt = [instances(GT[:1], [1]), instances(GT[1:], [0, 2])]
    gt[1].gt_index += 1
    losses, candidates = head(levels, gt)
    anchors = [grid(8, 8, 8, 64.0), grid(4, 4, 16, 128.0)]
    for b, (own, first) in enumerate(zip(candidates, (0, 1), strict=True)):
        torch.testing.assert_close(own.boxes, torch.cat(anchors))
        expected = atss_assign(gt[b].gt_boxes.tensor, anchors)
        assert own.target.tolist() == [-1 if t < 0 else t + first for t in expected.tolist()]
        assert torch.equal(own.features[64 + 4 * 2 + 3], levels[1][b, :, 2, 3])
    assert set(losses) == {"loss_atss_cls", "loss_atss_box", "loss_atss_centre"}


def test_faster_rcnn_hands_over_its_samples_with_pooled_features() -> None:
    torch.manual_seed(0)
    head = FasterRCNNHead(3, 16, (8, 16, 32))
    levels = [torch.randn(2, 16, 64 // s, 64 // s) for s in (8, 16, 32)]
    gt = [instances(GT, [2, 0, 1]), instances(GT[:0], [])]
    losses, (own, none) = head(levels, gt)
    assert {"loss_rpn_cls", "loss_rpn_loc", "loss_rcnn_cls", "loss_rcnn_box_reg"} == set(losses)
    assert (none.target == -1).all() and len(none.target) > 0
    iou, best = box_iou(own.boxes, GT).max(1)
    assert torch.equal(own.target, best.where(iou >= 0.5, -1))
    assert {0, 1, 2} <= set(own.target.tolist())  # the targets themselves are proposals
    # Boxes of less than 224 pixels are pooled from the level of stride 8 (FPN, eq. 1).
    regions = torch.cat([torch.zeros(len(own.boxes), 1), own.boxes], 1)
    pooled = roi_align(levels[0], regions, 7, 1 / 8, 0, True).mean((2, 3))
    torch.testing.assert_close(own.features, pooled)


def test_anchors_are_detectron2s() -> None:
    options = dict(sizes=[[32, 48], [64, 96]], aspect_ratios=[0.5, 1.0, 2.0], strides=[8, 16])
    levels = [torch.zeros(1, 4, 5, 7), torch.zeros(1, 4, 3, 4)]
    pairs = zip(
        AnchorGenerator(**options)(levels), DefaultAnchorGenerator(**options)(levels), strict=True
    )
    assert all(torch.equal(one.tensor, other.tensor) for one, other in pairs)


@pytest.mark.parametrize("low_quality", [False, True])
def test_the_matcher_is_detectron2s(low_quality: bool) -> None:
    overlap = torch.rand(4, 200, generator=torch.Generator().manual_seed(0)) ** 2
    overlap[:, 5] = overlap[1].max()  # equally good ones count, too
    for iou in (overlap, overlap[:0]):
        options = [0.3, 0.7], [0, -1, 1], low_quality
        pairs = zip(WaitlessMatcher(*options)(iou), Matcher(*options)(iou), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
