"""What is measured: ground truth of an image, and who is best-regressed.

Legend: N samples (queries or detections) of an image, G objects, M pairs of both; boxes are xyxy in
pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from detrex.utils.errors import InputError


@dataclass(frozen=True)
class Definitions:
    """What the prose of Align-DETR (section 1, Fig. 1) leaves open, with our choice as default.

    Attributes:
        assign: "argmax": an object's best-regressed sample is the one with the highest IoU, and
            counts for each object that shares it; "one-to-one": the assignment of samples to
            objects with the greatest total IoU.
        same_class: only samples whose best class is the object's can be best-regressed.
        min_iou: an object whose best sample has a lower IoU is left out.
        average: "image": mean of the images' recalls; "object": over all objects at once.
        candidate_iou: samples with at least this IoU with some object compete in an image's rank
            correlation.

    Raises InputError for any other value.
    """

    assign: str = "argmax"
    same_class: bool = False
    min_iou: float = 0.0
    average: str = "image"
    candidate_iou: float = 0.5

    def __post_init__(self) -> None:
        for name, allowed in (
            ("assign", ("argmax", "one-to-one")),
            ("average", ("image", "object")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"alignment: {name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("min_iou", "candidate_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"alignment: {name} must be in [0, 1], got {getattr(self, name)!r}"
                )


def read_definitions(given: Mapping[str, Any]) -> Definitions:
    """Definitions from a config. Raises InputError for a name that is none of its fields."""
    names = [field.name for field in fields(Definitions)]
    for name in given:
        if name not in names:
            raise InputError(f"alignment: no definition {name!r}, there are {', '.join(names)}")
    return Definitions(**given)


@dataclass(frozen=True)
class Truth:
    """One image: boxes (G, 4), labels (G,), areas (G,) and crowds apart; size (height, width)."""

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd_boxes: np.ndarray
    crowd_labels: np.ndarray
    size: tuple[int, int]


def best_regressed(
    iou: np.ndarray, labels: np.ndarray, gt_labels: np.ndarray, definitions: Definitions
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (M,) and the objects (M,) they are best-regressed for; equal IoUs: the first sample.

    iou (N, G), labels (N,) of samples in order of confidence, gt_labels (G,).
    """
    allowed = iou >= definitions.min_iou
    if definitions.same_class:
        allowed &= labels[:, None] == gt_labels
    value = np.where(allowed, iou, -1)
    if definitions.assign == "one-to-one":
        best, objects = linear_sum_assignment(value, maximize=True)
    else:
        best, objects = value.argmax(0), np.arange(len(gt_labels))
    found = value[best, objects] >= 0
    return best[found], objects[found]


def pairwise_iou(first: np.ndarray, second: np.ndarray, over_first: bool = False) -> np.ndarray:
    """IoU (N, M) of boxes (N, 4) and (M, 4), or intersection over the area of the first.

    Without upstream's epsilon (:func:`detrex.layers.box_iou`): thresholds must be COCO's. Empty
    boxes overlap nothing.
    """
    a, b = torch.from_numpy(np.asarray(first, np.float64)), torch.from_numpy(second)
    iou = box_iou(a, b)
    if over_first:
        area = [((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])) for x in (a, b)]
        iou = iou * (area[0][:, None] + area[1]) / (1 + iou) / area[0][:, None]
    return iou.nan_to_num(0, 0, 0).clamp(0, 1).numpy()
