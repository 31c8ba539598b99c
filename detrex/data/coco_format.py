"""From a COCO JSON to detectron2's dataset dicts, with the checks that hand-made data needs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_json_object
from detrex.utils.text import first_few

from .coco_columns import LARGE, Columns, class_names
from .coco_index import read_columns
from .coco_rules import image_file, shared_files, untrained_classes
from .records import Records

logger = logging.getLogger(__name__)


class CocoData(NamedTuple):
    """A data set: what :func:`read_coco` returns."""

    records: Sequence[dict]  # detectron2 dataset dicts, by image id
    categories: dict[int, str]  # id -> name, by id; the i-th one is class i


def load_coco(json_file: str, image_root: str, training: bool = False) -> Sequence[dict]:
    """Return detectron2 dataset dicts; see :func:`read_coco`."""
    return read_coco(json_file, image_root, training).records


def read_coco(json_file: str, image_root: str, training: bool = False) -> CocoData:
    """Read and check a detection data set in COCO format.

    Boxes of the records are x0, y0, x1, y1 in pixels, clipped to the image; ``category_id`` is the
    class index 0..K-1 in the order of the JSON's (maybe sparse) ids. Crowd regions stay in the
    records, marked by ``iscrowd``. One warning counts and names the boxes that are dropped because
    they are not finite or have no area inside the image. Others name categories of the same name
    and ids of the same image file, which stay apart, classes that are never trained on, and
    validation data without objects.

    The records are a list, or, of 100,000 annotations and more, made when they are looked at
    (:class:`detrex.data.records.Records`).

    Args:
        json_file: the annotations.
        image_root: folder of the images; file names may contain sub-folders, files may be links.
        training: require at least one box to train on.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    records = read_records(json_file, image_root, training)
    columns = records.columns
    is_large = len(columns.id) >= LARGE
    return CocoData(records if is_large else list(records), columns.categories)


def read_records(json_file: str, image_root: str, training: bool = False) -> Records:
    """As :func:`read_coco`, with records that are made when they are looked at."""
    columns = read_columns(json_file)
    check_images(json_file, image_root, columns)
    _check_conventions(json_file, columns)
    names = class_names(columns)
    pairs = zip(names, columns.categories.values(), strict=True)
    if doubles := [name for name, in_json in pairs if name != in_json]:
        logger.warning("%s: classes of one name: %s", json_file, first_few(doubles))
    _check_objects(json_file, columns, names, training)
    return Records(columns, json_file, image_root)


def check_images(json_file: str, image_root: str, columns: Columns) -> None:
    """Check that all images are there, and warn of files with several ids.

    A folder of an index's images is listed again only when it has changed.

    Raises:
        InputError: names the first images that are missing.
    """
    if not os.path.isdir(image_root):
        raise InputError(f"{image_root}: image folder of {json_file} not found")
    root = hashlib.sha256(os.fsencode(os.path.realpath(image_root))).hexdigest()[:12]
    path = columns.folder and columns.folder / f"images_{root}.json"
    checked = read_json_object(path, {}) if path and path.exists() else None
    if checked is None or _times(checked["folders"]) != checked["folders"]:
        checked = _look_for_images(json_file, image_root, columns)
        if path:
            with atomic_write(path) as stream:
                json.dump(checked, stream)
    if checked["shared"]:
        logger.warning(checked["shared"])


def _times(folders: Sequence[str]) -> dict[str, int]:
    """Return folder -> when its list of files changed; -1 if it is not there."""
    times = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            times[folder] = os.stat(folder).st_mtime_ns
    return {folder: times.get(folder, -1) for folder in folders}


def _look_for_images(json_file: str, image_root: str, columns: Columns) -> dict:
    """Return the folders of the images with their times, and the warning about shared files."""
    present: dict[str, set[str]] = {}  # folder -> names of its files
    missing: list[str] = []
    hashes = np.empty(len(columns.image_id), np.int64)
    for images, _ in columns.blocks():
        names = columns.names(images.start, images.stop)
        for number, name in enumerate(names, images.start):
            file = image_file(json_file, image_root, name)
            hashes[number] = hash(file)
            folder, base = os.path.split(file)
            if folder not in present:
                present[folder] = set(_files_in(folder))
            if base not in present[folder]:
                missing.append(name)
    if missing:
        raise InputError(
            f"{json_file}: {len(missing)} of {len(hashes)} images are missing in {image_root}: "
            f"{first_few([*map(repr, missing)])}"
        )
    order = np.argsort(hashes, kind="stable")
    equal = np.diff(hashes[order]) == 0
    twice = np.sort(order[np.append(equal, False) | np.append(False, equal)]).tolist()
    files = {
        int(columns.image_id[k]): image_file(json_file, image_root, *columns.names(k, k + 1))
        for k in twice
    }
    warning = ""
    if shared := shared_files(files):
        shown = first_few(
            [f"{path!r}: {first_few([*map(str, ids)])}" for path, ids in shared.items()],
            separator="; ",
        )
        warning = f"{json_file}: {len(shared)} image files have several image ids: {shown}"
    return {"folders": _times(list(present)), "shared": warning}


def _files_in(folder: str) -> Iterator[str]:
    """Yield the names of a folder's files; none if it cannot be listed."""
    # One listing: a stat per file takes minutes on a network drive.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a broken link
                if entry.is_file():
                    yield entry.name


def _check_conventions(json_file: str, columns: Columns) -> None:
    """Refuse boxes in fractions; warn of boxes that look like corners, and of dropped ones."""
    summary = columns.summary
    if summary.fractions:
        raise InputError(
            f"{json_file}: all {len(columns.id)} boxes lie within 0 to 1, as fractions of "
            "the image: a COCO bbox is x, y, width, height in pixels"
        )
    if summary.corners:
        logger.warning(
            f"{json_file}: {summary.corners} boxes leave their image, and all would fit as corners "
            "x0, y0, x1, y1: a COCO bbox is x, y, width, height"
        )
    if summary.dropped:
        reasons = "; ".join(
            f"{count} {fault} (annotations {first_few([*map(str, ids)], 5)})"
            for fault, (count, ids) in summary.dropped.items()
        )
        total = sum(count for count, _ in summary.dropped.values())
        logger.warning("%s: dropped %d boxes: %s", json_file, total, reasons)


def _check_objects(json_file: str, columns: Columns, names: list[str], training: bool) -> None:
    """Refuse to train on nothing; warn of classes, or validation data, without a box."""
    summary = columns.summary
    if not any(summary.trained):
        crowds, dropped = sum(summary.crowds), len(columns.id) - sum(summary.crowds)
        reasons = [f"{crowds} crowd regions (iscrowd 1)"] if crowds else []
        reasons += [f"{dropped} boxes that are dropped"] if dropped else []
        reason = f"it has {' and '.join(reasons) or 'no annotations'}"
        if training:
            raise InputError(f"{json_file}: no usable annotation to train on: {reason}")
        logger.warning(f"{json_file}: no objects, so that nothing can be scored: {reason}")
        return
    trained = Counter(dict(enumerate(summary.trained)))
    crowds = {k: count for k, count in enumerate(summary.crowds) if count}
    if training and (classes := untrained_classes(dict(enumerate(names)), trained, crowds)):
        logger.warning(f"{json_file}: classes that are never trained on: {first_few(classes)}")
