"""Alignment of any detector from its detections in COCO's results format."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import numpy as np

from detrex.evaluation.coco_json import load_detection_rows, load_ground_truth
from detrex.utils.errors import InputError

from .collector import AlignmentCollector, Detections, Diagnosis, one_class_samples
from .definitions import Definitions
from .report import AlignmentReport

logger = logging.getLogger(__name__)


def alignment_of_results(
    results: str | os.PathLike,
    annotations: str | os.PathLike,
    definitions: Definitions | None = None,
) -> AlignmentReport:
    """Return the alignment of :func:`diagnosis_of_results`."""
    return diagnosis_of_results(results, annotations, definitions).alignment


def diagnosis_of_results(
    results: str | os.PathLike,
    annotations: str | os.PathLike,
    definitions: Definitions | None = None,
) -> Diagnosis:
    """Measure a results JSON against the COCO JSON of its data set.

    Every detection is a sample of one class; there is one layer. Figures differ from those of
    queries, because a query may be a detection of several classes.

    Raises:
        InputError: a file cannot be read or belongs to another data set, there are no detections or
            no objects, or a score is outside [0, 1]; names the file.
    """
    gt = load_ground_truth(annotations)
    rows = read_detections(results, gt)
    category_ids = sorted(category["id"] for category in gt["categories"])
    try:
        collector = AlignmentCollector(gt, category_ids, layers=1, definitions=definitions)
    except InputError as error:
        raise InputError(f"{annotations}: {error}") from None
    for image_id, detections in by_image(rows, [i["id"] for i in gt["images"]], category_ids):
        samples = one_class_samples(detections, len(category_ids))
        collector.add(image_id, *samples, [detections])
    del rows  # COCO's evaluator takes their room
    return collector.diagnosis(
        "detections", {"results": str(results), "annotations": str(annotations)}
    )


def read_detections(results: str | os.PathLike, ground_truth: dict) -> np.ndarray:
    """Return the rows (D, 7) of :func:`load_detection_rows`.

    Raises:
        InputError: the file cannot be read or belongs to another data set, has no detections, or
            scores outside [0, 1]; names the file.
    """
    rows = load_detection_rows(results, ground_truth)
    if not len(rows):
        raise InputError(f"{results}: no detections at all: there is nothing to measure")
    low, high = rows[:, 5].min(), rows[:, 5].max()
    if low < 0 or high > 1:
        raise InputError(
            f"{results}: scores from {low:.4g} to {high:.4g}, some outside [0, 1]: write "
            "probabilities, not logits or percentages"
        )
    seen, total = len(np.unique(rows[:, 0])), len(ground_truth["images"])
    if seen < total / 2:  # results of another data set with such ids, or incomplete ones
        logger.warning(f"{results} has detections for only {seen} of the {total} images")
    return rows


def by_image(
    rows: np.ndarray, image_ids: list[int], category_ids: list[int]
) -> Iterator[tuple[int, Detections]]:
    """Yield (image id, detections) for every image, also for those without any.

    ``rows`` are those of :func:`load_detection_rows`, ``category_ids`` ascend.
    """
    order = np.argsort(rows[:, 0], kind="stable")
    ends = (np.searchsorted(rows[order, 0], image_ids, side) for side in ("left", "right"))
    for image_id, first, last in zip(image_ids, *ends, strict=True):
        _, x, y, w, h, scores, categories = rows[order[first:last]].T
        boxes = np.stack([x, y, x + w, y + h], 1)
        yield image_id, Detections(boxes, scores, np.searchsorted(category_ids, categories))
