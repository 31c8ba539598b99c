"""Every detection with what became of it, for fitting maps of scores.

Legend: D detections, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detrex.evaluation.matching import Truth, match_greedily

from .image import counted
from .meter import MOMENTS
from .sums import BINS, step_of


class Samples(NamedTuple):
    """Detections that COCO counts, each (D,).

    Attributes:
        scores: of the detector.
        labels: class.
        right: 1 where it matches an object at IoU 0.5, else 0.
        iou: with the object that it matches at any IoU, 0 without one.
        images: number of its image.
    """

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    iou: np.ndarray
    images: np.ndarray

    def where(self, chosen: np.ndarray) -> Samples:
        """Return the samples of a mask (D,)."""
        return Samples(*(column[chosen] for column in self))

    def target(self, name: str) -> np.ndarray:
        """Return what the score shall mean: "precision" or "iou"."""
        return self.right if name == "precision" else self.iou


def samples_of_image(
    number: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Truth
) -> Samples:
    """Return the samples of one image: boxes (D, 4), scores (D,), labels (D,), in any order."""
    detections = counted(boxes, scores, labels, truth)
    iou = np.zeros(len(detections.scores))
    touched = match_greedily(detections.iou * detections.same, 0)
    hit = touched >= 0
    iou[hit] = detections.iou[hit, touched[hit]]
    right = (detections.target >= 0).astype(np.float64)
    images = np.full(len(iou), number)
    return Samples(detections.scores, detections.labels, right, iou, images)


def joined(samples: list[Samples]) -> Samples:
    """Return the samples of several images as one."""
    return Samples(*(np.concatenate(column) for column in zip(*samples, strict=True)))


def bins_of_samples(samples: Samples) -> np.ndarray:
    """Return sums by bin of the score, (BINS, MOMENTS) as the meter's."""
    scores, _, right, iou, _ = samples
    bins = np.zeros((BINS, MOMENTS))
    moments = np.stack([np.ones(len(scores)), scores, right, iou, np.abs(iou - scores)], 1)
    np.add.at(bins, step_of(scores, np.arange(BINS) / BINS), moments)
    return bins
