"""One object, one box? Detections of one class on top of each other, and confused classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from detrex.utils.misc import ratio

from .meter import DUPLICATE_IOUS
from .sums import CONFUSION_THRESHOLDS, STEPS, THRESHOLDS, reaching
from .thresholds import Outcomes


def duplicates(sums: np.ndarray, copies: np.ndarray, outcomes: Outcomes) -> dict[str, list[float]]:
    """Return by threshold (0.05, 0.1 ... 0.95) of one class or of all together:

    - "share 0.5", "share 0.7", "share 0.9": the share of detections that lie, at this IoU or more,
      on a better-scored one of their class;
    - "pairs 0.5" ...: pairs of such detections per image;
    - "per object": detections at IoU 0.5 or more with an object of their class, for each object
      that has one.

    Real objects that overlap count, too: compare with the same data.

    Args:
        sums: (thresholds, IoUs, 2) of the meter.
        copies: (thresholds, 2) of the meter.
        outcomes: of :func:`.thresholds.outcomes_from`.
    """
    pairs, doubled = np.moveaxis(reaching(sums, 0), -1, 0)  # (thresholds, IoUs)
    steps = np.rint(THRESHOLDS * STEPS).astype(int)
    detections = (outcomes.right + outcomes.wrong)[steps]
    columns = {}
    for i, iou in enumerate(DUPLICATE_IOUS):
        columns[f"share {iou}"] = ratio(doubled[:, i], detections)
        columns[f"pairs {iou}"] = ratio(pairs[:, i], np.full(len(pairs), outcomes.images))
    columns["per object"] = ratio(*reaching(copies, 0).T)
    return {name: values.tolist() for name, values in columns.items()}


def confusion(
    counts: Mapping[tuple[int, int, int], int], objects: np.ndarray
) -> dict[str, list[list[int]]]:
    """Return the cells of the confusion matrix that are not empty, by threshold.

    A cell is [true class, predicted class, count]; the number of classes stands for background. A
    row adds up to the class's objects, a column to its detections.

    Args:
        counts: ``confusion`` of the meter.
        objects: (K,).
    """
    background, by_threshold = len(objects), {}
    for step, threshold in enumerate(CONFUSION_THRESHOLDS):
        cells: Counter[tuple[int, int]] = Counter()
        missed = objects.astype(int).tolist()
        for (highest, truth, predicted), count in counts.items():
            if highest >= step:
                cells[truth, predicted] += count
                if truth != background:
                    missed[truth] -= count
        cells |= {(k, background): count for k, count in enumerate(missed) if count}
        by_threshold[f"{threshold:g}"] = [[*cell, count] for cell, count in sorted(cells.items())]
    return by_threshold
