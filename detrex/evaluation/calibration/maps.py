"""From a detector's score to an honest one: monotone maps of scores, one for all or one a class.

Legend: D detections, K classes, P points of a map.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, get_type_hints

import numpy as np

from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a

KINDS = ("temperature", "platt", "isotonic")
TARGETS = ("precision", "iou")
SMALLEST = 1e-6  # scores of 0 and 1 have no logit
SLOPE = 1e-4  # of a map where it would be flat: what has another score keeps another one


@dataclass(frozen=True)
class ScoreMaps:
    """Maps of scores and thresholds, as a checkpoint's metadata hold them.

    Every map rises strictly, so that the order of a class's detections, and with it the class's AP,
    stays as it is. With one map for all classes the order across classes stays, too; with a map for
    each class it changes: that is what makes scores of different classes comparable.

    Attributes:
        kind: one of KINDS.
        target: what a score means afterwards, one of TARGETS: the share of such detections that are
            right at IoU 0.5, or their mean IoU with the object (0 without one).
        maps: parameters of each class's map: the temperature [t] of sigmoid(logit(score) / t); [a,
            b] of sigmoid(a logit(score) + b), Platt's; the P scores and then P values of an
            isotonic map, between which it is linear.
        thresholds: "LRP" and "F1": each class's best threshold, of scores before the map.
    """

    kind: str
    target: str
    maps: list[list[float]]
    thresholds: dict[str, list[float]] = field(default_factory=dict)

    def apply(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the calibrated scores (D,) of scores (D,) with classes (D,)."""
        calibrated = np.empty(len(scores), np.float64)
        for label in np.unique(labels):
            mine = labels == label
            calibrated[mine] = apply_map(self.kind, self.maps[label], scores[mine])
        return calibrated

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def apply_map(kind: str, parameters: list[float], scores: np.ndarray) -> np.ndarray:
    """Return scores (D,) through one map."""
    if kind == "isotonic":
        points = np.array(parameters).reshape(2, -1)
        return np.interp(scores, *points)
    slope, shift = (1 / parameters[0], 0.0) if kind == "temperature" else parameters
    return 1 / (1 + np.exp(-(slope * logits(scores) + shift)))


def logits(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(np.asarray(scores, np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(scores) - np.log1p(-scores)


def read_maps(content: object, where: str) -> ScoreMaps:
    """Return the maps that :meth:`ScoreMaps.to_dict` wrote.

    Args:
        content: a checkpoint's ``metadata.calibration``, or a JSON file's content.
        where: names it in messages.

    Raises:
        InputError: it is damaged.
    """
    hints = get_type_hints(ScoreMaps)
    if not is_a(content, hints):
        raise InputError(f"{where} is no calibration of scores: write it with tools/calibrate.py")
    maps = ScoreMaps(**{key: content[key] for key in hints})
    if maps.kind not in KINDS or maps.target not in TARGETS:
        raise InputError(f"{where}: unknown calibration {maps.kind!r:.30} of {maps.target!r:.30}")
    for label, parameters in enumerate(maps.maps):
        if not _rises(maps.kind, parameters):
            raise InputError(f"{where}: the map of class {label} is damaged")
    for name, values in maps.thresholds.items():
        if len(values) != len(maps.maps) or not all(0 <= value <= 1 for value in values):
            raise InputError(f"{where}: the {name} thresholds are damaged")
    return maps


def _rises(kind: str, parameters: list[float]) -> bool:
    if not all(map(math.isfinite, parameters)):
        return False
    if kind != "isotonic":
        return len(parameters) == KINDS.index(kind) + 1 and parameters[0] > 0
    if len(parameters) < 4 or len(parameters) % 2:
        return False
    scores, values = np.array(parameters).reshape(2, -1)
    inside = 0 <= values[0] and values[-1] <= 1
    return bool(inside and (np.diff(scores) > 0).all() and (np.diff(values) > 0).all())
