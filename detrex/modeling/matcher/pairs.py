"""Geometric cost of every query and target, by ``pairs.c`` on the CPU.

Legend: L layers, N queries, G targets of an image; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from detrex.layers import box_cxcywh_to_xyxy, overlaps
from detrex.utils.compiler import call_c, library_or_reason

SOURCE = Path(__file__).with_name("pairs.c")


def pair_costs(boxes: Tensor, gt: Tensor, l1: float, giou: float, iou: float) -> Tensor:
    """l1 * L1 + giou * GIoU + iou * IoU (L, N, G) of boxes (L, N, 4) and gt (G, 4).

    N is the fastest dimension in memory: an assignment is solved target by target.
    """
    library = library_or_reason(SOURCE)
    if boxes.dtype is torch.float32 and boxes.is_cpu and not isinstance(library, str):
        return _in_c(library, boxes, gt.float(), l1, giou, iou).mT
    found = overlaps(box_cxcywh_to_xyxy(gt)[:, None], box_cxcywh_to_xyxy(boxes)[:, None])
    cost = giou * found[1] + iou * found[0]
    if l1:
        cost = cost + l1 * torch.cdist(gt.to(boxes).expand(len(boxes), -1, -1), boxes, p=1)
    return cost.mT


def _in_c(library: ctypes.CDLL, boxes: Tensor, gt: Tensor, *factors: float) -> Tensor:
    """(L, G, N)."""
    boxes = boxes if boxes.stride()[1:] == (4, 1) else boxes.contiguous()
    gt = gt.contiguous()
    sizes = [*boxes.shape[:2], len(gt)]
    out = boxes.new_empty(sizes[0], sizes[2], sizes[1])
    inputs = boxes, boxes.stride(0), gt
    call_c(library.pair_costs, *inputs, out, sizes, *map(float, factors), torch.get_num_threads())
    return out
