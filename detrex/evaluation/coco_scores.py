"""COCO's twelve box scores, by hotcoco, or by pycocotools where that is not installed.

Both compute the same arrays of precision and recall, from which the scores are taken here: they are
the same for any ``max_dets``.

T IoU thresholds, K classes, A area ranges, M limits on detections per image.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable

import numpy as np

from detrex.data.coco import distinct_names
from detrex.utils.errors import InputError

from .coco_json import check_known, load_ground_truth

logger = logging.getLogger(__name__)

AREAS = ("all", "small", "medium", "large")  # COCO's order: axis A
SIZE_LIMITS = (32**2, 96**2)  # square pixels of the annotation's area: medium from, large from
CLASSES_AT_ONCE = 20  # with their detections, of which an evaluator keeps copies
IOUS = 10  # axis T: 0.50, 0.55 ... 0.95
RECALLS = 101  # levels: 0, 0.01 ... 1
CURVE_IOUS = (0.5, 0.75, 0.9)
IOU_INDEX = {None: slice(None), 0.5: 0, 0.75: 5, 0.9: 8}
# name: (array, IoU threshold or None for the mean, area, index of the detection limit)
SCORES = {
    "AP": ("precision", None, "all", 2),
    "AP50": ("precision", 0.5, "all", 2),
    "AP75": ("precision", 0.75, "all", 2),
    "APs": ("precision", None, "small", 2),
    "APm": ("precision", None, "medium", 2),
    "APl": ("precision", None, "large", 2),
    "AR1": ("recall", None, "all", 0),
    "AR10": ("recall", None, "all", 1),
    "AR100": ("recall", None, "all", 2),
    "ARs": ("recall", None, "small", 2),
    "ARm": ("recall", None, "medium", 2),
    "ARl": ("recall", None, "large", 2),
}


def evaluate_detections(
    ground_truth: str | os.PathLike | dict,
    detections: list[dict] | np.ndarray,
    backend: str = "auto",
    max_dets: int = 100,
    per_class: bool = False,
) -> dict[str, float]:
    """Score box detections against COCO ground truth.

    Args:
        ground_truth: COCO JSON, a path or its content. Missing ``iscrowd`` and ``area`` are added
            in memory; annotations of images that are not listed are left out.
        detections: COCO results, ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}``,
            or rows (D, 7): image id, x, y, w, h, score, category id.
        backend: "hotcoco", "pycocotools", or "auto": the first that is installed.
        max_dets: the highest-scoring detections of an image that count; more than 10.
        per_class: add "AP-<class name>" for every class; to a name of several classes their id is
            added.

    Returns:
        Percentages by the names in ``SCORES``; NaN where there is no such ground truth. "AR100"
        keeps its name whatever ``max_dets`` is.

    Raises:
        InputError: the ground truth is not COCO's, or a detection is of an unknown image or
            category.
    """
    gt = load_ground_truth(ground_truth)
    return score_detections(gt, detections, backend, max_dets, per_class)


def score_detections(
    gt: dict,
    detections: list[dict] | np.ndarray,
    backend: str = "auto",
    max_dets: int = 100,
    per_class: bool = False,
) -> dict[str, float]:
    """As :func:`evaluate_detections`, with ground truth of :func:`load_ground_truth`."""
    arrays = precision_and_recall(gt, detections, backend, max_dets)
    scores = main_scores(arrays)
    if per_class:
        # axis K is sorted by category id
        for k, (_, name) in enumerate(sorted(distinct_names(gt["categories"]).items())):
            scores[f"AP-{name}"] = class_score(arrays, k)
    return scores


def precision_and_recall(
    gt: dict, detections: list[dict] | np.ndarray, backend: str = "auto", max_dets: int = 100
) -> dict[str, np.ndarray]:
    """Return COCO's "precision" and "recall", each (T, K, A, M), and "curves" (3, K, 101), the
    precision at CURVE_IOUS and recall 0, 0.01 ... 1 of objects of all sizes. All are -1 where
    nothing counts.

    Precision is the mean over the 101 recall levels. Arguments and errors are those of
    :func:`score_detections`.
    """
    check_options(backend, max_dets)
    records = detections
    if isinstance(detections, np.ndarray):
        pairs = np.unique(detections[:, [0, 6]].astype(np.int64), axis=0).tolist()
        records = [{"image_id": image, "category_id": category} for image, category in pairs]
    check_known(records, "image_id", gt["images"])
    check_known(records, "category_id", gt["categories"])
    if not len(detections):
        logger.warning("no detections at all: every score is 0")
    return _accumulate(gt, detections, backend, max_dets)


def main_scores(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Return twelve percentages by the names in ``SCORES``, from :func:`precision_and_recall`."""
    return {name: _score(arrays, *rule) for name, rule in SCORES.items()}


def class_score(arrays: dict[str, np.ndarray], k: int, name: str = "AP") -> float:
    """Return a score, percent, of the class with the k-th lowest category id."""
    array = SCORES[name][0]
    return _score({array: arrays[array][:, [k]]}, *SCORES[name])


def scores_by_iou(arrays: dict[str, np.ndarray]) -> list[float]:
    """Return AP at IoU 0.50, 0.55 ... 0.95, percent."""
    steps = arrays["precision"]
    return [_score({"precision": steps[[t]]}, *SCORES["AP"]) for t in range(len(steps))]


def _hotcoco() -> tuple[Callable, Callable]:
    from hotcoco import COCO, COCOeval

    return COCO, COCOeval


def _pycocotools() -> tuple[Callable, Callable]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(dataset: dict) -> COCO:
        coco = COCO()
        coco.dataset = dataset
        coco.createIndex()
        return coco

    return index, COCOeval


BACKENDS = {"hotcoco": _hotcoco, "pycocotools": _pycocotools}


def _open_backend(name: str) -> tuple[str, Callable, Callable]:
    """Return the backend's name, its function from a dict to a COCO index, and its COCOeval."""
    if name != "auto" and name not in BACKENDS:
        raise InputError(f"unknown evaluator {name!r}: use auto, {', '.join(BACKENDS)}")
    for candidate in BACKENDS if name == "auto" else [name]:
        with contextlib.suppress(ImportError):
            return candidate, *BACKENDS[candidate]()
    raise InputError(f"no COCO evaluator ({name}): run `pip install hotcoco`")


def check_options(backend: str, max_dets: int) -> None:
    """Check two arguments of :func:`evaluate_detections`.

    Raises:
        InputError: an evaluator that is unknown or not installed, or too few detections.
    """
    if not isinstance(max_dets, int) or max_dets <= 10:
        raise InputError(f"max_dets must be more than 10, got {max_dets!r}")
    _open_backend(backend)


def _accumulate(
    gt: dict, detections: list[dict] | np.ndarray, backend: str, max_dets: int
) -> dict[str, np.ndarray]:
    name, index, evaluator = _open_backend(backend)
    logger.info(f"COCO evaluation of {len(detections)} boxes by {name}")
    class_of = {id_: k for k, id_ in enumerate(sorted(c["id"] for c in gt["categories"]))}
    shape = IOUS, len(class_of), len(AREAS), 3
    precision, recall = np.full(shape, -1.0), np.full(shape, -1.0)
    curves = np.full((len(CURVE_IOUS), len(class_of), RECALLS), -1, np.float32)
    scored = sorted({a["category_id"] for a in gt["annotations"]})
    with contextlib.redirect_stdout(io.StringIO()):  # the evaluators print every step
        coco = index(gt)
        for start in range(0, len(scored), CLASSES_AT_ONCE):
            categories = scored[start : start + CLASSES_AT_ONCE]
            chosen = _of_categories(detections, categories)
            # pycocotools cannot load an empty list
            results = coco.loadRes(chosen) if len(chosen) else index({**gt, "annotations": []})
            run = evaluator(coco, results, "bbox")
            run.params.maxDets = [1, 10, max_dets]
            run.params.catIds = categories
            run.evaluate()
            run.accumulate()
            classes = [class_of[id_] for id_ in run.params.catIds]
            levels = np.asarray(run.eval["precision"])  # (T, 101, K, A, M)
            precision[:, classes] = levels.mean(1)
            at_ious = levels[[IOU_INDEX[iou] for iou in CURVE_IOUS], :, :, 0, 2]
            curves[:, classes] = at_ious.swapaxes(1, 2)
            recall[:, classes] = np.asarray(run.eval["recall"])
    return {"precision": precision, "recall": recall, "curves": curves}


def _of_categories(
    detections: list[dict] | np.ndarray, categories: list[int]
) -> list[dict] | np.ndarray:
    """Return the detections of some categories as a copy, because loading them changes them."""
    if isinstance(detections, np.ndarray):
        return detections[np.isin(detections[:, 6], categories)] if len(detections) else []
    chosen = set(categories)
    return [dict(d) for d in detections if d["category_id"] in chosen]


def _score(arrays: dict, array: str, iou: float | None, area: str, limit: int) -> float:
    values = arrays[array][..., AREAS.index(area), limit][IOU_INDEX[iou]]
    counted = values[values > -1]
    return 100 * float(counted.mean()) if counted.size else float("nan")


def format_table(scores: dict[str, float], max_dets: int = 100) -> str:
    """Return the twelve lines that COCO's evaluator prints, with scores in [0, 1], or "no objects"
    where there are none of that size."""
    lines = []
    for name, (array, iou, area, limit) in SCORES.items():
        kind = "Precision  (AP)" if array == "precision" else "Recall     (AR)"
        thresholds = "0.50:0.95" if iou is None else f"{iou:0.2f}"
        lines.append(
            f" Average {kind} @[ IoU={thresholds:<9} | area={area:>6s} "
            f"| maxDets={(1, 10, max_dets)[limit]:>3d} ] = {score_text(scores[name] / 100, '0.3f')}"
        )
    return "\n".join(lines)


def score_text(score: float, form: str) -> str:
    """Return a score as text, "no objects" for NaN."""
    return "no objects" if np.isnan(score) else format(score, form)
