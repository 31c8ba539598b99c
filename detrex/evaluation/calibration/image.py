"""The detections of one image, each judged: right, or wrong in one of five ways.

Legend: D detections, best score first, and G objects of an image; boxes are xyxy in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detrex.evaluation.matching import (
    IOU,
    MAX_DETECTIONS,
    Truth,
    match_greedily,
    pairwise_iou,
    rank_in_class,
)

BACKGROUND_IOU = 0.1  # below it a detection has nothing to do with an object (TIDE's t_b)
KINDS = ("classification", "localisation", "both", "duplicate", "background")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(len(KINDS))


class ImageDetections(NamedTuple):
    """Detections that count, best score first, beside the image's objects.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        labels: (D,).
        iou: (D, G).
        same: (D, G), whether detection and object are of one class.
        target: (D,), the object that a detection matches at IoU 0.5, -1 for none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    iou: np.ndarray
    same: np.ndarray
    target: np.ndarray


def counted(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Truth
) -> ImageDetections:
    """Return the detections that COCO counts: the best 100 of each class, and of those that match
    no object none that lies in a crowd of its class."""
    scores = np.nan_to_num(scores.astype(np.float64)).clip(0, 1)
    order = np.argsort(-scores, kind="stable")
    order = order[rank_in_class(labels[order]) < MAX_DETECTIONS]
    boxes, scores, labels = boxes[order].astype(np.float64), scores[order], labels[order]
    iou, same = pairwise_iou(boxes, truth.boxes), labels[:, None] == truth.labels
    target = match_greedily(iou * same, IOU)
    detections = ImageDetections(boxes, scores, labels, iou, same, target)
    if not len(truth.crowd_boxes):
        return detections
    inside = pairwise_iou(boxes, truth.crowd_boxes, over_first=True) >= IOU
    in_crowd = (inside & (labels[:, None] == truth.crowd_labels)).any(1)
    counts = (target >= 0) | ~in_crowd
    return ImageDetections(*(x[counts] for x in detections))


def kinds_of_error(detections: ImageDetections) -> np.ndarray:
    """Return the index in KINDS of each wrong detection (D,), -1 for a right one.

    As TIDE (Bolya et al., ECCV 2020, section 2.2), whose reference code decides in this order: a
    box of the right class too far off; a good box of another class; a second box for an object; a
    box that no object is near; a box that is too far off and of another class.
    """
    _, _, _, iou, same, target = detections
    right_class = (iou * same).max(1, initial=0)
    wrong_class = (iou * ~same).max(1, initial=0)
    rules = [
        target >= 0,
        (right_class >= BACKGROUND_IOU) & (right_class < IOU),
        wrong_class >= IOU,
        right_class >= IOU,
        iou.max(1, initial=0) <= BACKGROUND_IOU,
    ]
    return np.select(rules, [-1, LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND], BOTH)


def mendable(detections: ImageDetections, kinds: np.ndarray) -> np.ndarray:
    """Return the object that each detection would match without its error (D,), -1 for none.

    A wrong class or place is mended towards the object that it was meant for, if that is free, and
    each object takes the best-scored of its errors only.
    """
    _, _, _, iou, same, target = detections
    if not iou.size:
        return np.full(len(iou), -1)
    meant = np.select(
        [kinds == CLASSIFICATION, kinds == LOCALISATION],
        [(iou * ~same).argmax(1), (iou * same).argmax(1)],
        -1,
    )
    meant[np.isin(meant, target[target >= 0])] = -1
    first = np.zeros(len(meant), bool)
    first[np.unique(meant, return_index=True)[1]] = True
    return np.where(first, meant, -1)


def confused_with(detections: ImageDetections) -> np.ndarray:
    """Return the object that each detection takes whatever its class (D,), -1 for none.

    In the order of scores each takes the free object that it overlaps most, at IoU 0.5 or more; one
    of its own class, if there is one.
    """
    preference = np.where(detections.iou >= IOU, detections.iou + detections.same, 0)
    return match_greedily(preference, IOU)
