"""What a detector's scores are worth, summed over images.

Legend: K classes, D detections and G objects of an image, R bootstrap replicates; boxes are xyxy in
pixels of the original image, scores in [0, 1].
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from detrex.evaluation.matching import Truth, match_greedily, pairwise_iou

from .image import (
    KINDS,
    ImageDetections,
    confused_with,
    counted,
    kinds_of_error,
    mendable,
)
from .sums import (
    CELLS,
    CONFUSION_THRESHOLDS,
    SCORE_CELLS,
    SCORE_STEPS,
    STEPS,
    THRESHOLDS,
    step_of,
)

DUPLICATE_IOUS = np.array([0.5, 0.7, 0.9])
# What is summed by class and score step: right detections, their 1 - IoU, wrong ones by kind, and
# detections that are right once the class, or the place, is mended.
RIGHT, INACCURACY, FIRST_KIND = 0, 1, 2
MENDED_CLASS = FIRST_KIND + len(KINDS)
MENDED_PLACE = MENDED_CLASS + 1
OUTCOMES = MENDED_PLACE + 1
# What is summed by class and score cell: detections, scores, right ones at IoU 0.5, IoU of those
# that match an object at all, and |IoU - score|.
COUNT, SCORE, PRECISION, OVERLAP, DEVIATION = range(5)
MOMENTS = 5
# (most classes, replicates): together they take at most 300 MB
REPLICATES = ((200, 200), (1500, 50), (math.inf, 0))


class CalibrationMeter:
    """Running sums over images; memory depends on the number of classes only.

    ``sums`` and ``confusion`` are the whole state; adding them merges the meters of several
    processes. Scores are
    counted in steps of 1/1000 where a threshold is sought and in steps of 1/100 for calibration;
    sums of scores and of IoU are exact.

    ``bootstrap`` are the calibration's sums with every image drawn Poisson(1) times, which is the
    bootstrap over images without a second look at them (Chamandy et al. 2012). An image's draws
    depend on its id only, so that intervals are the same for any number of processes.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.replicates = next(n for most, n in REPLICATES if classes <= most)
        self.sums = {
            "images": np.zeros(()),
            "objects": np.zeros(classes),
            "missed": np.zeros(classes),  # neither matched nor meant by an error
            "outcomes": np.zeros((classes, STEPS + 1, OUTCOMES)),
            "calibration": np.zeros((classes * CELLS, MOMENTS)),
            "bootstrap": np.zeros((classes * CELLS, self.replicates, MOMENTS), np.float32),
            # pairs, and detections with a better one of their class on them
            "duplicates": np.zeros((classes, len(THRESHOLDS), len(DUPLICATE_IOUS), 2)),
            "copies": np.zeros((classes, len(THRESHOLDS), 2)),  # detections on objects, objects
        }
        # (index of the highest threshold, true class or background, predicted class) -> detections
        self.confusion: Counter[tuple[int, int, int]] = Counter()

    def merge(self, other: CalibrationMeter) -> None:
        """Add the sums of another meter with as many classes, of other images."""
        for name, value in other.sums.items():
            self.sums[name] += value
        self.confusion.update(other.confusion)

    def update(
        self,
        image_id: int,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        truth: Truth,
    ) -> None:
        """Add one image: boxes (D, 4), scores (D,), labels (D,), in any order."""
        detections = counted(boxes, scores, labels, truth)
        self.sums["images"] += 1
        np.add.at(self.sums["objects"], truth.labels, 1)
        self._add_outcomes(detections, truth)
        self._add_calibration(image_id, detections)
        self._add_duplicates(detections)
        self._add_copies(detections)
        self._add_confusion(detections, truth)

    def _add_outcomes(self, detections: ImageDetections, truth: Truth) -> None:
        kinds = kinds_of_error(detections)
        mended = mendable(detections, kinds)
        missed = np.ones(len(truth.labels), bool)
        for objects in (detections.target, mended):
            missed[objects[objects >= 0]] = False
        np.add.at(self.sums["missed"], truth.labels[missed], 1)
        step, labels = step_of(detections.scores, SCORE_STEPS), detections.labels
        outcomes = self.sums["outcomes"]
        np.add.at(outcomes, (labels, step, np.where(kinds < 0, RIGHT, FIRST_KIND + kinds)), 1)
        right = np.flatnonzero(kinds < 0)
        inaccuracy = 1 - detections.iou[right, detections.target[right]]
        np.add.at(outcomes, (labels[right], step[right], INACCURACY), inaccuracy)
        mends = np.flatnonzero(mended >= 0)
        true_labels = truth.labels[mended[mends]]
        column = np.where(true_labels == labels[mends], MENDED_PLACE, MENDED_CLASS)
        np.add.at(outcomes, (true_labels, step[mends], column), 1)

    def _add_calibration(self, image_id: int, detections: ImageDetections) -> None:
        scores, target = detections.scores, detections.target
        overlap = np.zeros(len(scores))
        touched = match_greedily(detections.iou * detections.same, 0)  # as COCO, at IoU > 0
        hit = touched >= 0
        overlap[hit] = detections.iou[hit, touched[hit]]
        moments = [np.ones(len(scores)), scores, target >= 0, overlap, np.abs(overlap - scores)]
        cell = detections.labels * CELLS + step_of(scores, SCORE_CELLS)
        cells, index = np.unique(cell, return_inverse=True)
        sums = np.zeros((len(cells), MOMENTS))
        np.add.at(sums, index, np.stack(moments, 1))
        self.sums["calibration"][cells] += sums
        draws = np.random.default_rng(abs(image_id)).poisson(1, self.replicates)
        weighted = sums[:, None].astype(np.float32) * draws[:, None].astype(np.float32)
        self.sums["bootstrap"][cells] += weighted

    def _add_duplicates(self, detections: ImageDetections) -> None:
        """Count a pair at the lower of its two scores, where both are above the threshold."""
        step = step_of(detections.scores, THRESHOLDS)
        shown = int((step >= 0).sum())  # best first
        boxes, labels = detections.boxes[:shown], detections.labels[:shown]
        pairs = np.tril(pairwise_iou(boxes, boxes) * (labels[:, None] == labels), -1)
        better = (pairs[..., None] >= DUPLICATE_IOUS).sum(1)  # (D, 3)
        counts = np.stack([better, better > 0], -1)
        np.add.at(self.sums["duplicates"], (labels, step[:shown]), counts)

    def _add_copies(self, detections: ImageDetections) -> None:
        overlap = detections.iou * detections.same
        on_object = np.flatnonzero(overlap.max(1, initial=0) >= DUPLICATE_IOUS[0])
        step = step_of(detections.scores[on_object], THRESHOLDS)
        on_object, step = on_object[step >= 0], step[step >= 0]
        if not len(on_object):
            return
        first = np.zeros(len(on_object), bool)
        first[np.unique(overlap[on_object].argmax(1), return_index=True)[1]] = True
        counts = np.stack([np.ones(len(first)), first], 1)
        np.add.at(self.sums["copies"], (detections.labels[on_object], step), counts)

    def _add_confusion(self, detections: ImageDetections, truth: Truth) -> None:
        step = step_of(detections.scores, CONFUSION_THRESHOLDS)
        shown = step >= 0
        true_labels = np.append(truth.labels, self.classes)[confused_with(detections)[shown]]
        cells = np.stack([step[shown], true_labels, detections.labels[shown]], 1)
        self.confusion.update(map(tuple, cells.tolist()))
