"""What is measured: which samples are best-regressed.

Legend: N samples (queries or detections) of an image, G objects, M pairs of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

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


def best_regressed(iou: np.ndarray, min_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the best-regressed samples (M,) and their objects (M,).

    The rows of ``iou`` (N, G) are in order of confidence; of equal IoUs the first counts.
    """
    best = iou.argmax(0)
    objects = np.flatnonzero(iou[best, np.arange(iou.shape[1])] >= min_iou)
    return best[objects], objects
