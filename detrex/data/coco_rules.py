"""Which boxes and images of a COCO data set are used, and what is refused or warned of.

Training, evaluation and ``check_dataset.py`` all follow these rules.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from enum import StrEnum
from numbers import Real
from typing import NamedTuple

import numpy as np

from detrex.utils.errors import InputError

from .coco_masks import mask_area

Numbers = float | np.ndarray
MIN_SIDE = 1e-3  # pixels; in a large image float32 cannot represent a smaller side
ROUNDING = 1  # pixels by which a box may leave its image without a warning
CORNERS = 0.1  # share of boxes that leave their image if corners are read as x, y, w, h


def annotation_fault(annotation: dict) -> str | None:
    """Return what is wrong with the types of an annotation's bbox, iscrowd and area, or None.

    The numbers of a bbox may have any value. iscrowd and area may be missing.
    """
    box, crowd, area = (annotation.get(*key) for key in (("bbox",), ("iscrowd", 0), ("area", 0)))
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox is not four numbers: {box!r:.80}"
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        return f"iscrowd is not 0 or 1: {crowd!r:.80}"
    if not _is_number(area) or not math.isfinite(area):
        return f"area is not a finite number: {area!r:.80}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def area_is_odd(annotation: dict) -> bool:
    """Whether the stated area of an annotation is more than its box holds, or much less than its
    mask (without a mask: its box) covers, with a tenth and a pixel of tolerance.

    Evaluation calls objects small, medium or large by their area. False without an area or for a
    box without a size. The annotation has no :func:`annotation_fault`.
    """
    width, height = annotation["bbox"][2:]
    if "area" not in annotation or not (width > 0 and height > 0):
        return False
    return bool(
        differs(annotation["area"], width, height, mask_area(annotation.get("segmentation")))
    )


def differs(area: Numbers, width: Numbers, height: Numbers, mask: float | None = None) -> Numbers:
    """Whether an area is not that of a box, or of its mask, as :func:`area_is_odd` says; of
    numbers or of arrays (N,)."""
    least = 0.9 * (width - 1) * (width > 1) * (height - 1) * (height > 1)
    least = 0.5 * mask - 1 if mask else least
    most = 1.1 * (width + 1) * (height + 1)
    return (area <= 0) | (area < least) | (area > most)


def object_area(annotation: dict) -> float:
    """Return the area by which evaluation calls an object small, medium or large: the stated one,
    else its box's. The annotation has no :func:`annotation_fault`."""
    width, height = annotation["bbox"][2:]
    return annotation["area"] if "area" in annotation else float(width) * height


class BoxFault(StrEnum):
    """Why a box cannot be used; each is also an Oddity of that name."""

    NOT_FINITE = "not finite"
    NO_SIZE = "without a positive size"
    OUTSIDE = "outside the image"


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to their images.

    Args:
        boxes: (N, 4) x, y, w, h.
        sizes: (N, 2) width and height of their images.

    Returns:
        Faults (N,): 0 for none, k for the k-th :class:`BoxFault`, with which a box cannot be used;
        and corners (N, 4) x0, y0, x1, y1, which mean nothing where there is a fault.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        corners[:, :2] = np.maximum(corners[:, :2], 0)
        corners[:, 2:] = np.minimum(corners[:, 2:], sizes)
        outside = (corners[:, 2:] - corners[:, :2] < MIN_SIDE).any(1)
    no_size = (boxes[:, 2:] < MIN_SIDE).any(1)
    finite = np.isfinite(boxes).all(1)
    return np.select([~finite, no_size, outside], [1, 2, 3]).astype(np.int8), corners


def untrained_classes(
    names: Sequence[str], trained: Sequence[int], crowds: Sequence[int]
) -> list[str]:
    """Return the classes that no box is trained on, each with the reason.

    Args:
        names: of the classes.
        trained: boxes that are trained on, by class.
        crowds: crowd regions, by class.
    """
    return [
        f"{name!r}: " + (f"its {crowd} boxes are crowd regions" if crowd else "no usable boxes")
        for name, count, crowd in zip(names, trained, crowds, strict=True)
        if not count
    ]


class Boxes(NamedTuple):
    """Boxes with finite numbers."""

    ids: np.ndarray  # (N,) of their annotations
    boxes: np.ndarray  # (N, 4) x, y, w, h
    sizes: np.ndarray  # (N, 2) width and height of their images


def are_fractions(blocks: Iterable[Boxes]) -> bool:
    """Whether the boxes are fractions of the image's size instead of pixels: all of them lie in the
    first pixel, and not only because the images are that small."""
    large_image = False
    for _, boxes, sizes in blocks:
        if (boxes[:, :2] + boxes[:, 2:] > 1.01).any():
            return False
        large_image |= bool(((boxes[:, 2:].min(1) > 0) & (sizes.min(1) > 2)).any())
    return large_image


def look_like_corners(blocks: Iterable[Boxes]) -> list[int]:
    """Return ids of boxes that leave their image as x, y, w, h while all fit as x0, y0, x1, y1.

    Returns [] if they are less than a tenth of the boxes.
    """
    count, leaving = 0, []
    for ids, boxes, sizes in blocks:
        low, high = boxes[:, :2], boxes[:, 2:]
        if not ((low < high) & (high <= sizes + ROUNDING)).all():
            return []
        count += len(ids)
        leaving += ids[(low + high > sizes + ROUNDING).any(1)].tolist()
    return leaving if len(leaving) >= CORNERS * count else []


def image_file(json_file: str | os.PathLike, image_root: str | os.PathLike, name: str) -> str:
    """Return the path of an image that a COCO JSON names, relative to ``image_root`` or absolute.

    Backslashes separate folders unless a file has them in its name. "../" may lead out of
    ``image_root`` and in again.

    Raises:
        InputError: the path is outside ``image_root``. Links inside may lead anywhere.
    """
    path = name
    if "\\" in name and not os.path.lexists(os.path.join(image_root, name)):
        path = name.replace("\\", "/")
    steps = path.replace(os.sep, "/").split("/")
    relative = os.path.normpath(path)
    if os.path.isabs(path) or steps[0] == os.pardir:
        relative = os.path.relpath(os.path.join(image_root, path), image_root)
        while steps[0] == os.pardir and len(steps) > 1:
            del steps[0]
    if os.pardir in (*steps, *relative.split(os.sep)) or steps[-1] in ("", os.curdir):
        windows = " (its backslashes read as /)" if path != name else ""
        raise InputError(f"{json_file}: image file {name!r}{windows} is not inside {image_root}")
    return os.path.join(image_root, relative)
