"""What a threshold leaves of a run's judged detections: counts by kind, and confused classes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from detrex.evaluation.calibration.duplicates import confusion
from detrex.evaluation.calibration.image import KINDS
from detrex.evaluation.calibration.sums import CONFUSION_THRESHOLDS, reaching, step_of

from .gallery import KIND, LABEL, LEAST_SCORE, SCORE, TRUE_LABEL

FIRST = round(100 * LEAST_SCORE)
THRESHOLDS = np.arange(FIRST, 101) / 100  # of the page's slider


def by_kind(rows: np.ndarray) -> list[list[int]]:
    """Return the number of detections from each of ``THRESHOLDS`` on: a list for each kind of
    error, and the right ones last.

    ``rows`` are those of :func:`.gallery.judge_run`.
    """
    counts = np.zeros((len(KINDS) + 1, len(THRESHOLDS)), int)
    np.add.at(counts, (rows[:, KIND].astype(int), step_of(rows[:, SCORE], THRESHOLDS)), 1)
    return reaching(counts, 1).tolist()


def confused_classes(rows: np.ndarray, objects: np.ndarray) -> dict[str, list[list[int]]]:
    """Return the confusion matrix by threshold, as ``calibration.json`` holds it.

    Args:
        rows: of :func:`.gallery.judge_run`.
        objects: number of objects of each class, (K,).
    """
    steps = step_of(rows[:, SCORE], CONFUSION_THRESHOLDS)
    true_labels = np.where(rows[:, TRUE_LABEL] < 0, len(objects), rows[:, TRUE_LABEL])
    cells = np.column_stack([steps, true_labels, rows[:, LABEL]])[steps >= 0].astype(int)
    return confusion(Counter(map(tuple, cells.tolist())), objects)
