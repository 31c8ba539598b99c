"""Distinct queries: of queries that mean the same place the best-scored one counts.

Source: DDQ (Zhang et al., CVPR 2023), section 3.2.
Legend: B images, S proposals, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detrex.layers import box_cxcywh_to_xyxy


def distinct(scores: Tensor, boxes: Tensor, threshold: float, counted: Tensor) -> Tensor:
    """Which queries (B, N) no better one of their image overlaps by more than ``threshold``; only
    those that are ``counted`` (B, N) are looked at. Scores (B, N), boxes (B, N, 4)."""
    image, query = counted.nonzero(as_tuple=True)
    corners = box_cxcywh_to_xyxy(boxes[image, query].float())
    best = batched_nms(corners, scores[image, query].float(), image, threshold)
    return torch.zeros_like(counted).index_put((image[best], query[best]), counted.new_ones(()))


def distinct_first(logits: Tensor, boxes: Tensor, threshold: float) -> Tensor:
    """Scores (B, S) that rank distinct proposals before the others: those are in (1, 2), these in
    (0, 1); logits (B, S, K), boxes (B, S, 4)."""
    scores = logits.detach().amax(-1).float().sigmoid()
    every = torch.ones_like(scores, dtype=torch.bool)
    return scores + distinct(scores, boxes.detach(), threshold, every)


class Counted(NamedTuple):
    """The queries (B, N) that count from here on, and the mask (B, N, N) of the next layer's
    self-attention, True = must not attend."""

    queries: Tensor
    mask: Tensor


def count_distinct(
    logits: Tensor, boxes: Tensor, counted: Tensor, threshold: float, as_released: bool = False
) -> Counted:
    """After a layer with these logits (B, N, K) and boxes (B, N, 4) count, of the queries that were
    ``counted`` (B, N), those that are distinct. They attend to all, the others to them alone.

    ``as_released``: where an image's first query is distinct, all its queries count. That is the
    best-scored proposal, so there the filter is often off.
    """
    scores = logits.detach().amax(-1).sigmoid()
    left = distinct(scores, boxes.detach(), threshold, counted)
    mask = ~(left[:, :, None] | left[:, None])
    return Counted(left | (left[:, :1] & as_released), mask)
