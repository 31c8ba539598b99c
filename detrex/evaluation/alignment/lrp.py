"""Optimal localisation-recall-precision error (Oksuz et al., ECCV 2018 and TPAMI 2021).

At a score threshold s a class has TP, FP and FN objects by COCO's matching at IoU 0.5, and

    LRP(s) = (sum over TP of (1 - IoU) / (1 - 0.5) + FP + FN) / (TP + FP + FN)

oLRP is its minimum over s; its parts are taken at that threshold: localisation is the mean 1 - IoU
of the TP, FP = 1 - precision, FN = 1 - recall.

Legend: D detections and G objects of an image, K classes, S thresholds.
"""

from __future__ import annotations

import numpy as np

from detrex.evaluation.matching import IOU, MAX_DETECTIONS, match_greedily, rank_in_class
from detrex.utils.misc import ratio

STEPS = 1000  # thresholds are 0, 1 / STEPS, ... 1


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
        ignored: (D,), whether a detection lies in a crowd and is no FP if it matches nothing.
    """
    counts = rank_in_class(labels) < MAX_DETECTIONS
    scores, labels, iou, ignored = scores[counts], labels[counts], iou[counts], ignored[counts]
    target = match_greedily(np.where(labels[:, None] == gt_labels, iou, 0), IOU)
    hit = target >= 0
    error = np.zeros(len(iou))
    error[hit] = 1 - iou[hit, target[hit]]
    step = (scores * STEPS).astype(np.int64)
    np.add.at(sums, (labels, step), np.stack([hit, ~hit & ~ignored, error], -1))


def optimal_lrp(sums: np.ndarray, objects: np.ndarray) -> dict[str, np.ndarray]:
    """Return oLRP and its parts by class, (K,) each in [0, 1], and the threshold "score".

    Args:
        sums: (K, S, 3), of :func:`count_detections`. Thresholds are multiples of 1 / STEPS.
        objects: (K,), number of objects.

    NaN stands for a class without objects, localisation without TP, and FP without detections.
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
