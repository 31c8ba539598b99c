"""Detections beside the objects of their image, as COCO compares them.

Legend: D detections and G objects of an image, N and M boxes; boxes are xyxy in pixels of the
original image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

IOU = 0.5  # as AP50 counts a detection as right
MAX_DETECTIONS = 100  # of a class and image, as COCO


@dataclass(frozen=True)
class Truth:
    """Objects of an image: boxes (G, 4), labels (G,), areas (G,); crowds apart; (height, width)."""

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd_boxes: np.ndarray
    crowd_labels: np.ndarray
    size: tuple[int, int]


def pairwise_iou(first: np.ndarray, second: np.ndarray, over_first: bool = False) -> np.ndarray:
    """Return the IoU (N, M) of boxes (N, 4) and (M, 4), or intersection over the area of the first.

    Without upstream's epsilon (:func:`detrex.layers.box_iou`), because thresholds are COCO's. Empty
    boxes overlap nothing.
    """
    a, b = torch.from_numpy(np.asarray(first, np.float64)), torch.from_numpy(second)
    iou = box_iou(a, b)
    if over_first:
        area = [((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])) for x in (a, b)]
        iou = iou * (area[0][:, None] + area[1]) / (1 + iou) / area[0][:, None]
    return iou.nan_to_num(0, 0, 0).clamp(0, 1).numpy()


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each entry (D,) how many earlier ones have its label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return rank


def match_greedily(iou: np.ndarray, least: float) -> np.ndarray:
    """Return the object that each detection matches (D,), -1 for none, by COCO's rule.

    In the order of the rows of ``iou`` (D, G), best scores first, each detection takes the free
    object with the highest IoU, if that is ``least`` or more.
    """
    free = np.where(iou >= least, iou, 0)
    target = np.full(len(iou), -1)
    for d in np.flatnonzero(free.any(1)):
        best = free[d].argmax()
        if free[d, best] > 0:
            target[d] = best
            free[:, best] = 0
    return target
