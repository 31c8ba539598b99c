"""What is odd in a data set, each oddity with its image or annotation, for a person to correct."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import numpy as np

from detrex.utils.errors import InputError
from detrex.utils.images import image_size

from .coco import is_id
from .coco_columns import Columns, class_names, finite_boxes
from .coco_kinds import box_text
from .coco_rules import (
    ROUNDING,
    BoxFault,
    clip_boxes,
    image_file,
    look_like_corners,
    untrained_classes,
)
from .image_files import files_of_several_ids
from .mapper import DetrDatasetMapper

READERS = 8  # threads that decode images
AT_ONCE = 4096  # images that wait for them


class Oddity(StrEnum):
    """A kind of oddity; the value is its text in a report, behind a number."""

    MISSING = "images that are missing"
    UNREADABLE = "images that do not open"
    OTHER_SIZE = "sizes that are not the image's"
    SHARED_FILE = "image files with several image ids"
    FRACTIONS = "boxes within 0 to 1, as fractions of the image instead of pixels"
    CORNERS = "boxes that leave the image and would fit as x0, y0, x1, y1"
    NO_IMAGE = "boxes of images that are not listed"
    NO_CLASS = "boxes of classes that are not listed"
    NO_NUMBERS = "annotations with a value that is not of its kind"
    NOT_FINITE = "boxes not finite, not trained on"
    NO_SIZE = "boxes without a positive size, not trained on"
    OUTSIDE = "boxes outside the image, not trained on"
    CUT_OFF = "boxes partly outside the image, cut off"
    ONE_PIXEL = "boxes of a pixel or less"
    TWICE = "boxes that occur twice, with the same class"
    AREA = "areas that are not the object's, by which scores call it small, medium or large"
    SAME_NAME = "classes of one name, taken as different ones"
    NO_NAME = "classes without a name"
    UNTRAINED = "classes that are never trained on"
    NOTHING_TO_SCORE = "validation splits without objects, nothing can be scored"


Oddities = dict[str, list[str]]  # an Oddity, or a problem of the layout -> where


def find_oddities(columns: Columns, images: Path, training: bool = True) -> Oddities:
    """Return the odd images, boxes and classes of a COCO JSON.

    Every image is decoded as in training.

    Args:
        columns: the JSON's, of :func:`detrex.data.coco_index.read_all`.
        images: folder of the images.
        training: whether the split is for training; else for validation.

    Raises:
        InputError: the name of an image leads out of the folder.
    """
    odd: dict[Oddity, list[str]] = defaultdict(list)
    for kind, where in _image_oddities(columns, images):
        odd[kind].append(where)
    for path, ids in files_of_several_ids("the JSON", str(images), columns).items():
        where = f"{os.path.relpath(path, images)}: ids {', '.join(map(str, ids))}"
        odd[Oddity.SHARED_FILE].append(where)
    for kind, numbered in _box_oddities(columns).items():
        odd[kind] = [where for _, where in sorted(numbered)]
    names = class_names(columns)
    for (key, written), name in zip(columns.categories.items(), names, strict=True):
        if name != written:
            odd[Oddity.SAME_NAME].append(name)
        if not written.strip():
            odd[Oddity.NO_NAME].append(f"id {key}")
    summary = columns.summary
    if training:
        odd[Oddity.UNTRAINED] = untrained_classes(names, summary.trained, summary.crowds)
    elif not any(summary.trained):
        count = len(columns.id) + len(summary.left_out)
        odd[Oddity.NOTHING_TO_SCORE].append(f"{count} boxes or crowd regions")
    return {kind: odd[kind] for kind in Oddity if odd.get(kind)}


def _image_oddities(columns: Columns, images: Path) -> Iterator[tuple[Oddity, str]]:
    with ThreadPoolExecutor(READERS) as threads:
        for start in range(0, len(columns.image_id), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            sizes = columns.width[some].tolist(), columns.height[some].tolist()
            names = columns.names(start, min(some.stop, len(columns.image_id)))
            files = [image_file("the JSON", images, name) for name in names]
            looks = threads.map(_image_oddity, names, files, *sizes)
            yield from filter(None, looks)


def _image_oddity(name: str, path: str, width: int, height: int) -> tuple[Oddity, str] | None:
    if not os.path.isfile(path):
        return Oddity.MISSING, name
    try:
        _MAPPER.read({"file_name": path, "width": width, "height": height})
    except InputError as error:
        size, stated = image_size(path), (width, height)
        if size in (None, stated):
            return Oddity.UNREADABLE, f"{name}: {str(error).removeprefix(f'{path}: ')}"
        turned = ", upright as its EXIF data says" if size[::-1] == stated else ""
        where = f"{name}: {width}x{height}, the file {size[0]}x{size[1]}{turned}"
        return Oddity.OTHER_SIZE, where
    return None


_MAPPER = DetrDatasetMapper(augmentation=[], augmentation_with_crop=None)


def _box_oddities(columns: Columns) -> dict[Oddity, list[tuple[int, str]]]:
    """Return oddity -> (annotation id, where) of every odd box."""
    odd: dict[Oddity, list[tuple[int, str]]] = defaultdict(list)
    left_out = columns.summary.left_out
    names = _image_names(columns, {entry.image_id for entry in left_out})
    for entry in left_out:
        name = names.get(entry.image_id, "no image")
        where = f"annotation {entry.id} of {name}: {entry.what}"
        odd[Oddity[entry.fault]].append((entry.id, where))
    corners = np.array(look_like_corners(finite_boxes(columns)), np.int64)
    for images, rows in columns.blocks():
        boxes, ids = columns.boxes(rows.start, rows.stop), columns.id[rows]
        owners = np.repeat(np.arange(images.start, images.stop), columns.counts(images))
        odd_rows = _odd_rows(columns, images, rows, boxes)
        odd_rows[Oddity.TWICE] = _occur_before(owners, columns.category[rows], *boxes.T)
        odd_rows[Oddity.CORNERS] = np.isin(ids, corners)
        for kind, is_odd in odd_rows.items():
            for row in np.flatnonzero(is_odd):
                what = box_text(boxes[row])
                what += f", area {columns.area[rows][row]:.10g}" if kind == Oddity.AREA else ""
                name = columns.names(owners[row], owners[row] + 1)[0]
                odd[kind].append((int(ids[row]), f"annotation {ids[row]} of {name}: {what}"))
        columns.release()
    return odd


def _image_names(columns: Columns, image_ids: Iterable[int]) -> dict[int, str]:
    """Return image id -> file name of those of the images that are listed."""
    ids = np.array([id_ for id_ in image_ids if is_id(id_)], np.int64)
    indices = np.flatnonzero(np.isin(columns.image_id, ids))
    return {int(columns.image_id[i]): columns.names(i, i + 1)[0] for i in indices}


def _odd_rows(
    columns: Columns, images: slice, rows: slice, boxes: np.ndarray
) -> dict[Oddity, np.ndarray]:
    """Return oddity -> which annotations of a block have it, (N,) bool."""
    sizes = columns.sizes(images)
    faults, _ = clip_boxes(boxes, sizes)
    odd = {Oddity[fault.name]: faults == k for k, fault in enumerate(BoxFault, start=1)}
    with np.errstate(invalid="ignore"):
        beyond = (boxes[:, :2] < -ROUNDING) | (sizes - boxes[:, :2] - boxes[:, 2:] < -ROUNDING)
    odd[Oddity.CUT_OFF] = (faults == 0) & beyond.any(1)
    sound = (faults == 0) & ~odd[Oddity.CUT_OFF]
    if columns.summary.fractions:
        odd[Oddity.FRACTIONS] = sound
    else:
        odd[Oddity.ONE_PIXEL] = sound & (boxes[:, 2:].min(1) <= 1)
    odd[Oddity.AREA] = columns.odd_area[rows].astype(bool) & ~odd[Oddity.NOT_FINITE]
    return odd


def _occur_before(*columns: np.ndarray) -> np.ndarray:
    """Return which rows equal one before them, (N,) bool."""
    order = np.lexsort(columns)
    equal = [np.zeros(min(len(order), 1), bool), np.ones(max(len(order) - 1, 0), bool)]
    for values in (column[order] for column in columns):
        equal[1] &= values[1:] == values[:-1]
    result = np.empty(len(order), bool)
    result[order] = np.concatenate(equal)
    return result
