"""Scores of people in crowds: AP, log-average miss rate and Jaccard index, at IoU 0.5.

D detections, G people, R regions that are ignored, of an image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from detrex.utils.errors import InputError

from .coco import COCOEvaluator

IOU = 0.5
# False positives per image at which the miss rate is read: 10^-2 to 1, evenly in the logarithm, as
# CrowdHuman's tools round them.
MISS_RATE_AT = (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0)
JACCARD_SCORES = tuple(k / 10 for k in range(10))


class _Image(NamedTuple):
    scores: np.ndarray  # (D,) descending
    iou: np.ndarray  # (D, G)
    ignored: np.ndarray  # (D,) most of it lies in an ignored region


class CrowdEvaluator(COCOEvaluator):
    """Scores a detector of one class as CrowdHuman does; arguments as of ``COCOEvaluator``."""

    def _scores(self, detections: list[dict]) -> dict[str, float]:
        return crowd_scores(self.ground_truth, detections)

    def _table(self, scores: dict[str, float]) -> str:
        return "\n".join(f" {name:<6} {score:6.2f}" for name, score in scores.items())


def crowd_scores(ground_truth: dict, detections: list[dict]) -> dict[str, float]:
    """Return percentages "AP", "MR", "JI" and "recall" of detections of one class.

    Boxes are cut off at the edges of their image, as the data set's tools do. Every person is
    matched with at most one detection: by descending score each takes the free person that it
    overlaps most (Caltech's way, Dollar et al. 2012). One that matches nobody is false unless half
    of its area lies in an ignored region (iscrowd 1).

    - AP: area under precision over recall, by the trapezoidal rule.
    - MR, lower is better: the mean miss rate in the logarithm at nine numbers of false positives
      per image (log-average miss rate, MR^-2).
    - JI: matches / (people + detections - matches), the mean over images, with the largest
      one-to-one matching; at the best of ten score thresholds (Chu et al. 2020,
      arXiv:2003.09163).

    Args:
        ground_truth: of :func:`detrex.evaluation.coco_json.load_ground_truth`.
        detections: COCO results of its images.

    Raises:
        InputError: several classes.
    """
    if len(ground_truth["categories"]) != 1:
        names = ", ".join(category["name"] for category in ground_truth["categories"])
        raise InputError(f"the crowd scores are of one class, the data have several: {names}")
    images = _images(ground_truth, detections)
    people = sum(image.iou.shape[1] for image in images)
    if not people:
        return dict.fromkeys(("AP", "MR", "JI", "recall"), float("nan"))
    outcomes = [_outcomes(image) for image in images]
    scores = np.concatenate([image.scores for image in images])
    outcome = np.concatenate(outcomes)[np.argsort(-scores, kind="stable")]
    true, false = np.cumsum(outcome == 1), np.cumsum(outcome == 0)
    counted = outcome >= 0
    true, false = true[counted], false[counted]
    recall, precision = true / people, true / np.maximum(true + false, 1)
    values = {
        "AP": float((np.diff(recall) * (precision[1:] + precision[:-1])).sum() / 2),
        "MR": _miss_rate(1 - recall, false / len(images)),
        "JI": max(_jaccard(images, limit) for limit in JACCARD_SCORES),
        "recall": float(recall[-1]) if len(recall) else 0.0,
    }
    return {name: 100 * value for name, value in values.items()}


def _images(ground_truth: dict, detections: list[dict]) -> list[_Image]:
    rows = {image["id"]: ([], [], []) for image in ground_truth["images"]}
    sizes = [(image["width"], image["height"]) for image in ground_truth["images"]]
    for annotation in ground_truth["annotations"]:
        rows[annotation["image_id"]][annotation["iscrowd"]].append(annotation["bbox"])
    for detection in detections:
        rows[detection["image_id"]][2].append((*detection["bbox"], detection["score"]))
    images = []
    for size, (people, regions, detected) in zip(sizes, rows.values(), strict=True):
        table = np.array(detected, np.float64).reshape(-1, 5)
        table = table[np.argsort(-table[:, 4], kind="stable")]
        boxes, people, regions = (_inside(b, size) for b in (table[:, :4], people, regions))
        area = boxes[:, 2] * boxes[:, 3]
        common = _intersections(boxes, people)
        union = area[:, None] + people[:, 2] * people[:, 3] - common
        inside = _intersections(boxes, regions) / np.maximum(area, 1e-9)[:, None]
        iou = common / np.maximum(union, 1e-9)
        images.append(_Image(table[:, 4], iou, inside.max(1, initial=0) >= IOU))
    return images


def _inside(boxes: list | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (N, 4), x, y, w, h, cut off at the edges of their image."""
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    low, high = (np.clip(b, 0, size) for b in (boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))
    return np.concatenate([low, high - low], axis=1)


def _intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return areas (N, M) that boxes (N, 4) and (M, 4), x, y, w, h, have in common."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    ends = [(b[:, :2] + b[:, 2:]) for b in (boxes, others)]
    high = np.minimum(ends[0][:, None], ends[1][None])
    return np.clip(high - low, 0, None).prod(2)


def _outcomes(image: _Image) -> np.ndarray:
    """Return (D,) 1 for a match, 0 for a false positive, -1 for what does not count."""
    outcomes = np.where(image.ignored, -1, 0)
    free = image.iou.copy()
    for row in range(len(free) if free.shape[1] else 0):
        best = int(free[row].argmax())
        if free[row, best] >= IOU:
            outcomes[row], free[:, best] = 1, 0
    return outcomes


def _miss_rate(miss: np.ndarray, false_per_image: np.ndarray) -> float:
    if not len(miss):
        return 1.0
    first = np.searchsorted(false_per_image, MISS_RATE_AT).clip(max=len(miss) - 1)
    return float(np.exp(np.log(np.maximum(miss[first], 1e-10)).mean()))


def _jaccard(images: list[_Image], limit: float) -> float:
    ratios = []
    for image in images:
        chosen = image.scores >= limit
        iou = image.iou[chosen]
        pairs = linear_sum_assignment(iou >= IOU, maximize=True)
        matches = int((iou[pairs] >= IOU).sum())
        matched = np.zeros(len(iou), bool)
        matched[pairs[0][iou[pairs] >= IOU]] = True
        counted = int((matched | ~image.ignored[chosen]).sum())
        total = counted + iou.shape[1] - matches
        ratios += [matches / total] if total else []
    return float(np.mean(ratios)) if ratios else 0.0
