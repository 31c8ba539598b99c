"""Geometric cost of every query and target.

Legend: L layers, N queries, G targets of an image; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy, overlaps


def pair_costs(boxes: Tensor, gt: Tensor, l1: float, giou: float, iou: float) -> Tensor:
    """l1 * L1 + giou * GIoU + iou * IoU (L, N, G) of boxes (L, N, 4) and gt (G, 4).

    N is the fastest dimension in memory: an assignment is solved target by target.
    """
    pairs = overlaps(box_cxcywh_to_xyxy(gt)[:, None], box_cxcywh_to_xyxy(boxes)[:, None])
    cost = giou * pairs[1] + iou * pairs[0]
    if l1:
        cost = cost + l1 * torch.cdist(gt.to(boxes).expand(len(boxes), -1, -1), boxes, p=1)
    return cost.mT
