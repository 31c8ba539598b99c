"""Which threshold? The best ones by two measures, and what each threshold gives.

Legend: S score steps; everything is of one class, or of all classes together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detrex.evaluation.matching import IOU
from detrex.utils.misc import ratio

from .image import KINDS
from .meter import FIRST_KIND, INACCURACY, RIGHT
from .sums import CELLS, SCORE_STEPS, STEPS, reaching

MEASURES = ("LRP", "F1")


class Outcomes(NamedTuple):
    """Detections from each threshold on: right, wrong, and the sum of the right ones' 1 - IoU, each
    (S,); beside the number of objects and of images."""

    right: np.ndarray
    wrong: np.ndarray
    inaccuracy: np.ndarray
    objects: float
    images: float


def outcomes_from(sums: np.ndarray, objects: float, images: float) -> Outcomes:
    """Return outcomes by threshold from sums by score step (S, OUTCOMES)."""
    wrong = sums[:, FIRST_KIND : FIRST_KIND + len(KINDS)].sum(1)
    columns = (sums[:, RIGHT], wrong, sums[:, INACCURACY])
    return Outcomes(*(reaching(column, 0) for column in columns), objects, images)


def at_thresholds(outcomes: Outcomes) -> dict[str, np.ndarray]:
    """Return (S,) by threshold: "score", "precision", "recall" and "F1" at IoU 0.5, mean "iou" of
    the right detections, "LRP", all in [0, 1], and "false_positives" per image.

    LRP is Oksuz et al.'s (TPAMI 2021) localisation-recall-precision error.
    """
    right, wrong, inaccuracy, objects, images = outcomes
    return {
        "score": SCORE_STEPS,
        "precision": ratio(right, right + wrong),
        "recall": ratio(right, np.full(len(right), objects)),
        "F1": ratio(2 * right, right + wrong + objects),
        "iou": 1 - ratio(inaccuracy, right),
        "LRP": ratio(inaccuracy / (1 - IOU) + wrong + objects - right, objects + wrong),
        "false_positives": ratio(wrong, np.full(len(wrong), images)),
    }


def operating_points(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return :func:`at_thresholds` at the threshold of the lowest LRP and of the highest F1.

    Of equal thresholds the highest counts. All is NaN without objects or right detections.
    """
    table = at_thresholds(outcomes)
    if not (outcomes.objects and outcomes.right[0]):
        return {name: dict.fromkeys(table, float("nan")) for name in MEASURES}
    best = {"LRP": table["LRP"][::-1].argmin(), "F1": table["F1"][::-1].argmax()}
    return {
        name: {column: float(values[STEPS - step]) for column, values in table.items()}
        for name, step in best.items()
    }


def curve(outcomes: Outcomes) -> dict[str, list[float]]:
    """Return what is "right" and "wrong" (detections), and the "inaccuracy" (sum of 1 - IoU of the
    right ones), from the thresholds 0, 0.01 ... 1 on."""
    columns = {"right": outcomes.right, "wrong": outcomes.wrong, "inaccuracy": outcomes.inaccuracy}
    return {name: values[:: STEPS // CELLS].tolist() for name, values in columns.items()}
