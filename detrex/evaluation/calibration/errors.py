"""Kinds of error, and the AP that each costs (TIDE, Bolya et al., ECCV 2020).

What a kind costs is the AP50 that the detector would gain if it made no error of that kind and all
others as before. Costs don't add up to what is missing to 100.
"""

from __future__ import annotations

import numpy as np

from .image import CLASSIFICATION, KINDS, LOCALISATION
from .meter import FIRST_KIND, MENDED_CLASS, MENDED_PLACE, RIGHT

RECALLS = np.linspace(0, 1, 101)  # COCO's
COSTS = (*KINDS, "missed", "false_positives", "false_negatives")


def average_precision(right: np.ndarray, wrong: np.ndarray, objects: float) -> float:
    """Return a class's AP in percent, as COCO's mean over 101 recalls, from the numbers of right
    and wrong detections by score step (S,), lowest score first; 0 without objects.

    Detections of one score step count at once.
    """
    if objects <= 0:
        return 0.0
    right, wrong = np.cumsum(right[::-1]), np.cumsum(wrong[::-1])
    precision = right / np.maximum(right + wrong, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(right / objects, RECALLS)
    return float(100 * np.append(envelope, 0)[reached].mean())


def error_costs(sums: np.ndarray, objects: float, missed: float) -> dict[str, float]:
    """Return a class's "AP50", and the AP points that each of COSTS takes from it.

    A wrong class or place costs what mending it would give: the best-scored such box of a free
    object becomes right, the others vanish. Other wrong boxes vanish. Missed objects, those that
    no box was meant for, are taken off the objects. Without false positives all boxes are right;
    without false negatives the objects are those that were detected.

    Args:
        sums: by score step, (S, OUTCOMES) of the meter.
        objects: number of objects.
        missed: number of them that no box was meant for.
    """
    right, kinds = sums[:, RIGHT], sums[:, FIRST_KIND : FIRST_KIND + len(KINDS)]
    wrong = kinds.sum(1)
    mended = {CLASSIFICATION: sums[:, MENDED_CLASS], LOCALISATION: sums[:, MENDED_PLACE]}
    without = [
        average_precision(right + mended.get(kind, 0), wrong - kinds[:, kind], objects)
        for kind in range(len(KINDS))
    ]
    without += [
        average_precision(right, wrong, objects - missed),
        average_precision(right, 0 * wrong, objects),
        average_precision(right, wrong, right.sum()),
    ]
    ap50 = average_precision(right, wrong, objects)
    costs = {name: ap - ap50 for name, ap in zip(COSTS, without, strict=True)}
    return {"AP50": ap50, **costs}


def error_counts(sums: np.ndarray, missed: float) -> dict[str, int]:
    """Return how many errors of each kind there are, whatever their score; "missed" are objects."""
    counts = sums[:, FIRST_KIND : FIRST_KIND + len(KINDS)].sum(0).astype(int).tolist()
    return {**dict(zip(KINDS, counts, strict=True)), "missed": int(missed)}
