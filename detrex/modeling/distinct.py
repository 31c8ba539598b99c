"""Distinct queries: of queries that mean the same place the best-scored one counts.

Source: DDQ (Zhang et al., CVPR 2023), section 3.2.
Legend: B images, S proposals, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from detrex.layers import box_cxcywh_to_xyxy

# Of one call of NMS, which compares all its boxes with each other.
BOXES, IMAGES = 20000, 16
BEHIND = 1e4  # how far, in logits, proposals that are not distinct rank behind all others


def distinct(scores: Tensor, boxes: Tensor, threshold: float, counted: Tensor) -> Tensor:
    """Which queries (B, N) no better one of their image overlaps by more than ``threshold``; only
    those that are ``counted`` (B, N) are looked at. Scores (B, N), boxes (B, N, 4).

    The host waits for the device once: NMS says how many boxes are left. With more than 16 images
    or 20,000 boxes it is called for some images at a time, and waits each time.
    """
    if torch.compiler.is_compiling():  # a graph does not depend on the number of images
        return _distinct(scores, boxes, counted, threshold)
    images = min(IMAGES, max(1, BOXES // scores.shape[1]))
    batches = zip(*(x.split(images) for x in (scores, boxes, counted)), strict=True)
    return torch.cat([_distinct(*batch, threshold) for batch in batches])


def _distinct(scores: Tensor, boxes: Tensor, counted: Tensor, threshold: float) -> Tensor:
    corners = box_cxcywh_to_xyxy(boxes.float())  # in [-0.5, 1.5]
    # Image i lies in [4^i, 3 * 4^i]: apart from the others, and rounded as they are. What does not
    # count is a box without area, which overlaps nothing.
    scale = 4.0 ** torch.arange(boxes.shape[0], device=boxes.device)[:, None, None]
    corners = (corners + 1.5) * counted[..., None] * scale
    left = nms(corners.flatten(0, 1), scores.float().flatten(), threshold)
    alone = torch.zeros_like(counted.flatten()).index_fill(0, left, True)
    return alone.view_as(counted) & counted


def distinct_first(scores: Tensor, boxes: Tensor, threshold: float, count: int) -> Tensor:
    """Scores (B, S) that rank the ``count`` best distinct proposals of each image first, by scores
    (B, S) that are logits, and boxes (B, S, 4).

    The host waits for the device once an image, and again where too few of the best 4 ``count``
    proposals are distinct. A compiled or exported graph compares all proposals, of up to 32 images.
    """
    scores, boxes = scores.detach().float(), boxes.detach().float()
    if torch.compiler.is_compiling():
        chosen = _distinct(scores, boxes, torch.ones_like(scores, dtype=torch.bool), threshold)
    else:
        images = zip(scores, boxes, strict=True)
        chosen = torch.stack([_best_distinct(*image, threshold, count) for image in images])
    return scores - BEHIND * ~chosen


def _best_distinct(scores: Tensor, boxes: Tensor, threshold: float, count: int) -> Tensor:
    """Which proposals (S,) of an image are distinct, as far as the ``count`` best of them: whether
    one is depends on better ones alone, so the worst need not be compared."""
    compared, corners = 4 * count, box_cxcywh_to_xyxy(boxes)
    order = scores.sort(descending=True, stable=True).indices
    while True:
        best = order[:compared]
        left = nms(corners[best], scores[best], threshold)
        if len(left) >= count or compared >= len(scores):
            return torch.zeros_like(scores, dtype=torch.bool).index_fill(0, best[left], True)
        compared *= 4


class Counted(NamedTuple):
    """The queries (B, N) that count from here on, and the mask (B, N, N) of the next layer's
    self-attention, True = must not attend."""

    queries: Tensor
    mask: Tensor


def count_distinct(
    logits: Tensor, boxes: Tensor, counted: Tensor, threshold: float, as_released: bool = False
) -> Counted:
    """After a layer with these logits (B, N, K) and boxes (B, N, 4) count, of the queries that were
    ``counted`` (B, N), those that are distinct. They attend to all, the others to them alone. The
    host waits as for :func:`distinct`, once a layer.

    ``as_released``: where an image's first query is distinct, all its queries count. That is the
    best-scored proposal, so there the filter is often off.
    """
    left = distinct(logits.detach().amax(-1), boxes.detach(), threshold, counted)
    mask = ~(left[:, :, None] | left[:, None])
    return Counted(left | (left[:, :1] & as_released), mask)
