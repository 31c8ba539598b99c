"""What is odd in a data set, each oddity with its image or annotation, for a person to correct."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from detrex.utils.errors import InputError
from detrex.utils.images import image_size

from .coco import CocoEntries, distinct_names
from .coco_rules import (
    ROUNDING,
    annotation_fault,
    are_fractions,
    area_is_odd,
    clip_box,
    finite_boxes,
    image_file,
    is_trained_on,
    look_like_corners,
    shared_files,
    untrained_classes,
)
from .mapper import DetrDatasetMapper

READERS = 8  # threads that decode images


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


def find_oddities(entries: CocoEntries, images: Path, training: bool = True) -> Oddities:
    """Return the odd images, boxes and classes of a COCO JSON.

    Every image is decoded as in training.

    Args:
        entries: the JSON's.
        images: folder of the images.
        training: whether the split is for training; else for validation.

    Raises:
        InputError: the name of an image leads out of the folder.
    """
    files = {
        key: image_file("the JSON", images, image["file_name"])
        for key, image in entries.images.items()
    }
    odd: dict[Oddity, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(READERS) as threads:
        looks = threads.map(_image_oddity, entries.images.values(), files.values())
        for kind, where in filter(None, looks):
            odd[kind].append(where)
    for path, ids in shared_files(files).items():
        where = f"{os.path.relpath(path, images)}: ids {', '.join(map(str, ids))}"
        odd[Oddity.SHARED_FILE].append(where)
    for kind, number in _box_oddities(entries):
        odd[kind].append(_place(kind, number, entries))
    distinct = distinct_names(entries.categories.values())
    for key, category in entries.categories.items():
        if distinct[key] != category["name"]:
            odd[Oddity.SAME_NAME].append(distinct[key])
        if not category["name"].strip():
            odd[Oddity.NO_NAME].append(f"id {key}")
    if training:
        odd[Oddity.UNTRAINED] = untrained(entries)
    elif not any(is_trained_on(a, entries) for a in entries.annotations.values()):
        odd[Oddity.NOTHING_TO_SCORE].append(f"{len(entries.annotations)} boxes or crowd regions")
    return {kind: odd[kind] for kind in Oddity if odd.get(kind)}


def _image_oddity(image: dict, path: str) -> tuple[Oddity, str] | None:
    name, stated = image["file_name"], _size(image)
    if not os.path.isfile(path):
        return Oddity.MISSING, name
    try:
        _MAPPER.read({"file_name": path, "width": stated[0], "height": stated[1]})
    except InputError as error:
        size = image_size(path)
        if size in (None, stated):
            return Oddity.UNREADABLE, f"{name}: {str(error).removeprefix(f'{path}: ')}"
        turned = ", upright as its EXIF data says" if size[::-1] == stated else ""
        where = f"{name}: {stated[0]}x{stated[1]}, the file {size[0]}x{size[1]}{turned}"
        return Oddity.OTHER_SIZE, where
    return None


def _size(image: dict) -> tuple[int, int]:
    return image["width"], image["height"]


_MAPPER = DetrDatasetMapper(augmentation=[], augmentation_with_crop=None)


def _box_oddities(entries: CocoEntries) -> Iterator[tuple[Oddity, int]]:
    """Yield (oddity, annotation id) for every odd box."""
    boxes = [finite_boxes(entries)]
    fractions = are_fractions(boxes)
    yield from ((Oddity.CORNERS, number) for number in look_like_corners(boxes))
    seen = set()
    for number, annotation in entries.annotations.items():
        if (kind := _box_oddity(annotation, entries)) is not None:
            yield kind, number
        elif fractions:
            yield Oddity.FRACTIONS, number
        elif min(annotation["bbox"][2:]) <= 1:
            yield Oddity.ONE_PIXEL, number
        if kind not in (Oddity.NO_NUMBERS, Oddity.NOT_FINITE) and area_is_odd(annotation):
            yield Oddity.AREA, number
        key = annotation["image_id"], annotation["category_id"], str(annotation["bbox"])
        if key in seen:
            yield Oddity.TWICE, number
        seen.add(key)


def _box_oddity(annotation: dict, entries: CocoEntries) -> Oddity | None:
    if annotation["image_id"] not in entries.images:
        return Oddity.NO_IMAGE
    if annotation["category_id"] not in entries.categories:
        return Oddity.NO_CLASS
    if annotation_fault(annotation):
        return Oddity.NO_NUMBERS
    width, height = _size(entries.images[annotation["image_id"]])
    x, y, w, h = annotation["bbox"]
    fault, _ = clip_box([x, y, w, h], width, height)
    if fault:
        return Oddity[fault.name]
    cut = min(x, y, width - x - w, height - y - h) < -ROUNDING
    return Oddity.CUT_OFF if cut else None


def _place(kind: Oddity, number: int, entries: CocoEntries) -> str:
    annotation = entries.annotations[number]
    name = entries.images.get(annotation["image_id"], {}).get("file_name", "no image")
    what = annotation["bbox"]
    if kind == Oddity.NO_NUMBERS:
        what = annotation_fault(annotation)
    elif kind == Oddity.AREA:
        what = f"{what}, area {annotation['area']}"
    return f"annotation {number} of {name}: {what}"


def untrained(entries: CocoEntries) -> list[str]:
    """Return the classes that no box is trained on, each with the reason."""
    trained, crowds = Counter(), Counter()
    for annotation in entries.annotations.values():
        if is_trained_on(annotation, entries):
            trained[annotation["category_id"]] += 1
        elif annotation.get("iscrowd") == 1:
            crowds[annotation["category_id"]] += 1
    return untrained_classes(distinct_names(entries.categories.values()), trained, crowds)


def equal_files(splits: Mapping[str, Iterable[Path]]) -> list[list[tuple[str, Path]]]:
    """Return groups of (split, path) whose files have the same bytes. Only files of equal length
    are read."""
    by_length: dict[int, set[tuple[str, Path]]] = defaultdict(set)
    for split, paths in splits.items():
        for path in paths:
            if os.path.isfile(path):
                by_length[path.stat().st_size].add((split, path))
    by_content: dict[bytes, list[tuple[str, Path]]] = defaultdict(list)
    for group in by_length.values():
        for split, path in sorted(group) if len(group) > 1 else ():
            with path.open("rb") as stream:
                by_content[hashlib.file_digest(stream, "sha256").digest()].append((split, path))
    return [group for group in by_content.values() if len(group) > 1]
