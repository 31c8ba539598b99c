"""Every detection of a run judged, and the images on which runs are wrong in the worst ways."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detrex.evaluation.alignment.collector import Detections
from detrex.evaluation.alignment.results import by_image
from detrex.evaluation.calibration.image import KINDS, confused_with, counted, kinds_of_error
from detrex.evaluation.matching import Truth
from detrex.utils.images import open_image

LEAST_SCORE = 0.05  # of a detection on the page
MOST_WRONG = 30  # detections of a run on an image, besides the right ones
SIDE = 512  # pixels of an image on the page
MOST_BYTES = 4_000_000  # of all images; twenty runs then fit into 15 MB
# Columns of judged detections. Target and confused are numbers of the image's objects, -1 for none:
# of the one that is detected, and of the one that lies there whatever its class.
IMAGE, X, Y, W, H, LABEL, SCORE, KIND, TARGET, CONFUSED, TRUE_LABEL = range(11)


def judge_run(
    rows: np.ndarray, truths: dict[int, Truth], category_ids: Sequence[int]
) -> np.ndarray:
    """Return the judged detections of a run, by image, best score first.

    Args:
        rows: of ``load_detection_rows``.
        truths: image id -> its objects, in the order of the page's image numbers.
        category_ids: ascending.

    Returns:
        (D, 11), the columns above. Kind is an index in KINDS, -1 for a right detection.
    """
    images = by_image(rows[rows[:, 5] >= LEAST_SCORE], [*truths], [*category_ids])
    judged = [judge(detections, truths[image_id]) for image_id, detections in images]
    numbers = np.repeat(np.arange(len(judged)), [len(rows) for rows in judged])
    return np.column_stack([numbers, np.concatenate(judged)])


def judge(detections: Detections, truth: Truth) -> np.ndarray:
    """Return the columns of :func:`judge_run` after the first, of one image, (D, 10).

    COCO's matching at IoU 0.5, so that what a detection is does not depend on those with lower
    scores: a threshold only takes some away.
    """
    shown = counted(*detections, truth)
    confused = confused_with(shown)
    corners, sizes = shown.boxes[:, :2], shown.boxes[:, 2:] - shown.boxes[:, :2]
    columns = [corners, sizes, shown.labels, shown.scores, kinds_of_error(shown), shown.target]
    return np.column_stack([*columns, confused, np.append(truth.labels, -1)[confused]])


def choose_images(
    judged: Sequence[np.ndarray], objects: np.ndarray, threshold: float, count: int
) -> list[int]:
    """Return the numbers of at most ``count`` images for the page.

    In turn the next image for each run and kind of gallery, so that every one has its worst.

    Args:
        judged: of each run.
        objects: number of objects of each image, (I,).
        threshold: least score that counts here.
        count: of images.
    """
    shown = [rows[rows[:, SCORE] >= threshold] for rows in judged]
    orders = zip(*(_worst(rows, objects) for rows in shown), strict=True)  # by gallery, then run
    in_turn = itertools.zip_longest(*itertools.chain(*orders))
    images = (int(i) for turn in in_turn for i in turn if i is not None)
    return [*itertools.islice(dict.fromkeys(images), count)]


def _worst(rows: np.ndarray, objects: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in the order of each gallery: by mistakes, missed objects, the best score of
    each kind of error, and of each pair of confused classes, the most frequent pair first."""
    image = rows[:, IMAGE].astype(int)
    wrong = rows[:, KIND] >= 0
    missed = objects - np.bincount(image[~wrong], minlength=len(objects))
    for mistakes in (missed + np.bincount(image[wrong], minlength=len(objects)), missed):
        order = np.argsort(-mistakes, kind="stable")
        yield order[mistakes[order] > 0]
    best_first = np.argsort(-rows[:, SCORE], kind="stable")
    for kind in range(len(KINDS)):
        yield image[best_first[rows[best_first, KIND] == kind]]
    confused = best_first[(rows[:, TRUE_LABEL] != rows[:, LABEL])[best_first]]
    pairs = rows[confused][:, [TRUE_LABEL, LABEL]]
    _, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    yield image[confused[first[np.argsort(-counts, kind="stable")]]]


def packed(rows: np.ndarray, images: Sequence[int]) -> list[list[int]]:
    """Return a run's detections on each image as one list of whole numbers: x, y, w, h, class,
    score in thousandths, kind, target and confused of each."""
    ends = [np.searchsorted(rows[:, IMAGE], images, side) for side in ("left", "right")]
    lists = []
    for first, last in zip(*ends, strict=True):
        shown = rows[first:last]
        wrong = shown[:, KIND] >= 0
        shown = shown[~wrong | (np.cumsum(wrong) <= MOST_WRONG)]
        shown = shown[:, X:TRUE_LABEL] * np.where(np.arange(X, TRUE_LABEL) == SCORE, 1000, 1)
        lists.append(np.rint(shown).astype(int).ravel().tolist())
    return lists


def packed_truth(truth: Truth) -> dict[str, list[list[int]]]:
    """Return the "objects" and "crowds" of an image, each x, y, w, h, class."""
    pairs = {
        "objects": (truth.boxes, truth.labels),
        "crowds": (truth.crowd_boxes, truth.crowd_labels),
    }
    return {
        name: np.rint(np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], labels]))
        .astype(int)
        .tolist()
        for name, (boxes, labels) in pairs.items()
    }


def data_uri(path: Path) -> str:
    """The image, at most ``SIDE`` pixels a side, as an address inside a page."""
    image = open_image(path)
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=65)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
