"""Matching and losses in the plain formulation of public detection transformers.

One cost matrix over all images of the batch, targets repeated for one-to-many queries, one loss
call per layer, one-hot class targets, all-pairs GIoU of which few entries are used. Written to be
obvious; equal to :class:`detrex.modeling.SetCriterion` in value.

Legend: B images, N queries, G targets of all images, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy, box_iou, generalized_box_iou

COSTS = {"class": 2.0, "bbox": 5.0, "giou": 2.0}
ALPHA, GAMMA = 0.25, 2.0


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: list[dict], power: float | None) -> list[tuple]:
    """Per image (queries, targets); logits (B, N, K). ``power``: the high-order cost's, if used."""
    batch, queries = logits.shape[:2]
    labels = torch.cat([t["labels"] for t in targets])
    gt = torch.cat([t["boxes"] for t in targets])
    p, flat = logits.flatten(0, 1).sigmoid(), boxes.flatten(0, 1)
    corners, gt_corners = box_cxcywh_to_xyxy(flat), box_cxcywh_to_xyxy(gt)
    if power is None:
        negative = (1 - ALPHA) * p**GAMMA * -(1 - p + 1e-8).log()
        positive = ALPHA * (1 - p) ** GAMMA * -(p + 1e-8).log()
        cost = COSTS["bbox"] * torch.cdist(flat, gt, p=1)
        cost = cost + COSTS["class"] * (positive[:, labels] - negative[:, labels])
        cost = cost - COSTS["giou"] * generalized_box_iou(corners, gt_corners)
    else:
        cost = -(p[:, labels] * box_iou(corners, gt_corners)[0] ** power)
    cost = cost.view(batch, queries, -1).cpu()
    sizes = [len(t["labels"]) for t in targets]
    solved = [linear_sum_assignment(c[i]) for i, c in enumerate(cost.split(sizes, -1))]
    return [(torch.as_tensor(i), torch.as_tensor(j)) for i, j in solved]


def layer_losses(
    logits: Tensor,
    boxes: Tensor,
    targets: list[dict],
    power: float | None,
    num_boxes: float,
    quality: bool,
) -> Tensor:
    """2 * class + 5 * L1 + 2 * GIoU of one layer; ``quality``: the GIoU-aware class loss."""
    pairs = match(logits.detach(), boxes.detach(), targets, power)
    image = torch.cat([torch.full_like(i, b) for b, (i, _) in enumerate(pairs)])
    query = torch.cat([i for i, _ in pairs])
    labels = torch.cat([t["labels"][j] for t, (_, j) in zip(targets, pairs, strict=True)])
    gt = torch.cat([t["boxes"][j] for t, (_, j) in zip(targets, pairs, strict=True)])
    target = torch.zeros_like(logits)
    target[image, query, labels] = 1.0
    if quality:
        target = target * _quality(boxes, targets, pairs)[..., None]
    matched = boxes[image, query]
    giou = generalized_box_iou(box_cxcywh_to_xyxy(matched), box_cxcywh_to_xyxy(gt)).diag()
    total = 2 * _class_loss(logits, target, (image, query, labels)).sum()
    total = total + 5 * F.l1_loss(matched, gt, reduction="sum") + 2 * (1 - giou).sum()
    return total / num_boxes


def _class_loss(logits: Tensor, target: Tensor, positives: tuple) -> Tensor:
    p = logits.sigmoid()
    alpha = torch.full_like(target, 1 - ALPHA)
    alpha[positives] = ALPHA
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return alpha * (target - p).abs() ** GAMMA * bce


@torch.no_grad()
def _quality(boxes: Tensor, targets: list[dict], pairs: list[tuple]) -> Tensor:
    """(GIoU + 1) / 2 of matched queries (B, N), read from the GIoU of all pairs of the batch."""
    gt = torch.cat([t["boxes"] for t in targets])
    giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes.flatten(0, 1)), box_cxcywh_to_xyxy(gt))
    giou = giou.view(*boxes.shape[:2], -1)
    result, first = giou.new_zeros(boxes.shape[:2]), 0
    for b, (query, target) in enumerate(pairs):
        result[b, query] = (giou[b, query, first + target] + 1) / 2
        first += len(targets[b]["labels"])
    return result


def hybrid_losses(
    decoder: tuple[Tensor, Tensor],
    encoder: tuple[Tensor, Tensor],
    targets: list[dict],
    *,
    one2one: int,
    copies: int,
    power: float | None,
) -> Tensor:
    """Everything that Rank-DETR sums: decoder logits (L, B, N, K) and boxes, encoder proposals."""
    count = max(sum(len(t["labels"]) for t in targets), 1)
    repeated = [
        {"labels": t["labels"].repeat(copies), "boxes": t["boxes"].repeat(copies, 1)}
        for t in targets
    ]
    total = 0.0
    for logits, boxes in zip(*decoder, strict=True):
        first, rest = slice(None, one2one), slice(one2one, None)
        total += layer_losses(logits[:, first], boxes[:, first], targets, power, count, True)
        many = count * copies
        total += layer_losses(logits[:, rest], boxes[:, rest], repeated, power, many, True)
    zeroed = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
    return total + layer_losses(*encoder, zeroed, power, count, False)
