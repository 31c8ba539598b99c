"""What is measured: an image's objects, and which samples are best-regressed.

Legend: N samples (queries or detections) of an image, G objects, M pairs of both; boxes are xyxy in
pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torchvision.ops import box_iou

from detrex.utils.errors import InputError


@dataclass(frozen=True)
class Definitions:
    """Choices that Align-DETR (section 1, Fig. 1) leaves open.

    An object's best-regressed sample is the one with the highest IoU; objects may share it.

    Attributes:
        min_iou: objects whose best sample has a lower IoU are left out.
        candidate_iou: samples with at least this IoU with some object compete in an image's rank
            correlation.

    Raises:
        InputError: a value outside [0, 1].
    """

    min_iou: float = 0.0
    candidate_iou: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise InputError(f"alignment: {name} must be in [0, 1], got {value!r}")


def read_definitions(values: Mapping[str, float]) -> Definitions:
    """Return the definitions that a config gives by name.

    Raises:
        InputError: an unknown name, or a value outside [0, 1].
    """
    names = [field.name for field in fields(Definitions)]
    for name in values:
        if name not in names:
            raise InputError(f"alignment: no definition {name!r}, there are {', '.join(names)}")
    return Definitions(**values)


@dataclass(frozen=True)
class Truth:
    """Objects of an image: boxes (G, 4), labels (G,), areas (G,); crowds apart; (height, width)."""

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd_boxes: np.ndarray
    crowd_labels: np.ndarray
    size: tuple[int, int]


def best_regressed(iou: np.ndarray, min_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the best-regressed samples (M,) and their objects (M,).

    The rows of ``iou`` (N, G) are in order of confidence; of equal IoUs the first counts.
    """
    best = iou.argmax(0)
    objects = np.flatnonzero(iou[best, np.arange(iou.shape[1])] >= min_iou)
    return best[objects], objects


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
