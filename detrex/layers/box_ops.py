"""Box arithmetic. Boxes are float tensors (..., 4): cxcywh or xyxy, in any one unit."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to every denominator, as upstream: it moves the IoU of tiny normalised boxes, so results
# are only comparable with the same value.
EPS = 1e-6


def box_cxcywh_to_xyxy(bbox: Tensor) -> Tensor:
    """Centre and size (..., 4) to corners (..., 4)."""
    centre, half = bbox[..., :2], bbox[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def box_xyxy_to_cxcywh(bbox: Tensor) -> Tensor:
    """Corners (..., 4) to centre and size (..., 4)."""
    low, high = bbox[..., :2], bbox[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def box_area(boxes: Tensor) -> Tensor:
    """Area (...) of xyxy boxes (..., 4)."""
    return _product(boxes[..., 2:] - boxes[..., :2])


def _product(size: Tensor) -> Tensor:
    """Width times height; the gradient of ``prod`` takes a dozen operators."""
    width, height = size.unbind(-1)
    return width * height


def overlaps(boxes1: Tensor, boxes2: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, GIoU and union of xyxy boxes whose leading shapes broadcast.

    ``overlaps(a, b)`` pairs M boxes with M boxes; ``overlaps(a[:, None], b)`` compares all.
    GIoU is Rezatofighi et al., CVPR 2019, in [-1, 1]; IoU is in [0, 1]. ``eps`` is
    added to the areas of union and hull, so that boxes without area have IoU 0.
    """
    low = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    high = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    inter = _product((high - low).clamp(min=0))
    union = box_area(boxes1) + box_area(boxes2) - inter
    iou = inter / (union + eps)
    hull_low = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    hull_high = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    hull = _product((hull_high - hull_low).clamp(min=0))
    return iou, iou - (hull - union) / (hull + eps), union


def box_iou(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union, both (..., N, M), of xyxy boxes (..., N, 4) and (..., M, 4)."""
    iou, _, union = overlaps(boxes1[..., :, None, :], boxes2[..., None, :, :])
    return iou, union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU (..., N, M) of xyxy boxes (..., N, 4) and (..., M, 4)."""
    return overlaps(boxes1[..., :, None, :], boxes2[..., None, :, :])[1]
