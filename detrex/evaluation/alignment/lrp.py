"""Optimal localisation-recall-precision error (Oksuz et al., ECCV 2018 and TPAMI 2021).

At a score threshold s a class has TP, FP and FN objects by COCO's matching at IoU 0.5, and

    LRP(s) = (sum over TP of (1 - IoU) / (1 - 0.5) + FP + FN) / (TP + FP + FN)

oLRP is its minimum over s; its parts are taken at that threshold: localisation is the mean 1 - IoU
of the TP, FP = 1 - precision, FN = 1 - recall.

Legend: D detections and G objects of an image, K classes, S thresholds.
"""

from __future__ import annotations

import numpy as np

from .statistics import ratio

IOU = 0.5
STEPS = 1000  # thresholds are 0, 1 / STEPS, ... 1
MAX_DETECTIONS = 100  # of a class and image, as COCO


def count_detections(
    sums: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    iou: np.ndarray,
    gt_labels: np.ndarray,
    ignored: np.ndarray,
) -> None:
    """Add one image's detections to ``sums`` (K, S, 3): TP, FP and the TP's 1 - IoU by score.

    Args:
        sums: changed in place.
        scores: (D,), best first.
        labels: (D,).
        iou: (D, G).
        gt_labels: (G,).
        ignored: (D,), detections that are no FP if they match nothing (they lie in a crowd).
    """
    kept = _place_in_class(labels) < MAX_DETECTIONS
    scores, labels, iou, ignored = scores[kept], labels[kept], iou[kept], ignored[kept]
    target = match_greedily(np.where(labels[:, None] == gt_labels, iou, 0), IOU)
    hit = target >= 0
    error = np.zeros(len(iou))
    error[hit] = 1 - iou[hit, target[hit]]
    step = (scores * STEPS).astype(np.int64)
    np.add.at(sums, (labels, step), np.stack([hit, ~hit & ~ignored, error], -1))


def _place_in_class(labels: np.ndarray) -> np.ndarray:
    """How many earlier entries have the same label, (D,)."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return place


def match_greedily(iou: np.ndarray, least: float) -> np.ndarray:
    """COCO's matching: each detection in turn takes the free object it overlaps most.

    iou (D, G), best scores first; returns the object of each detection (D,), -1 for none with an
    IoU of ``least`` or more.
    """
    free = np.where(iou >= least, iou, 0)
    target = np.full(len(iou), -1)
    for d in np.flatnonzero(free.any(1)):
        best = free[d].argmax()
        if free[d, best] > 0:
            target[d] = best
            free[:, best] = 0
    return target


def optimal_lrp(sums: np.ndarray, objects: np.ndarray) -> dict[str, np.ndarray]:
    """oLRP and its parts by class, (K,) each in [0, 1], and the threshold "score".

    sums (K, S, 3) of :func:`count_detections`; objects (K,) counts the ground truth. Exact for
    thresholds that are multiples of 1 / STEPS. NaN: a class without objects; localisation without
    TP; FP without detections.
    """
    tp, fp, error = np.moveaxis(sums[:, ::-1].cumsum(1), -1, 0)  # (K, S), highest threshold first
    total = objects[:, None] + fp  # TP + FN is the ground truth
    lrp = ratio(error / (1 - IOU) + fp + objects[:, None] - tp, total)
    best = np.where(np.isnan(lrp), np.inf, lrp).argmin(1)
    tp, fp, error, lrp = (x[np.arange(len(x)), best] for x in (tp, fp, error, lrp))
    exists = np.where(objects > 0, 1, np.nan)
    return {
        "oLRP": lrp * exists,
        "localisation": ratio(error, tp) * exists,
        "FP": ratio(fp, tp + fp) * exists,
        "FN": ratio(objects - tp, objects),
        "score": (STEPS - best) / STEPS * exists,
    }
