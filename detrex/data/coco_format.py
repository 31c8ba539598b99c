"""From a COCO JSON to detectron2's dataset dicts, with the checks that hand-made data needs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from detectron2.structures import BoxMode

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .coco import CocoEntries, distinct_names, read_entries
from .coco_rules import (
    annotation_fault,
    are_fractions,
    clip_box,
    image_file,
    look_like_corners,
    shared_files,
    untrained_classes,
)

logger = logging.getLogger(__name__)


class CocoData(NamedTuple):
    """A data set: what :func:`read_coco` returns."""

    records: list[dict]  # detectron2 dataset dicts, by image id
    categories: dict[int, str]  # id -> name, by id; the i-th one is class i


def load_coco(json_file: str, image_root: str, training: bool = False) -> list[dict]:
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

    Args:
        json_file: the annotations.
        image_root: folder of the images; file names may contain sub-folders, files may be links.
        training: require at least one box to train on.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    entries = read_entries(json_file)
    files = _image_files(json_file, image_root, entries.images)
    _check_conventions(json_file, entries, files)
    records = {
        image_id: {
            "file_name": files[image_id],
            "image_id": image_id,
            "height": image["height"],
            "width": image["width"],
            "annotations": [],
        }
        for image_id, image in entries.images.items()
    }
    dropped = _add_annotations(json_file, records, entries.annotations, list(entries.categories))
    names = {i: c["name"] for i, c in entries.categories.items()}
    distinct = distinct_names(entries.categories.values())
    if doubles := [name for i, name in distinct.items() if name != names[i]]:
        logger.warning("%s: classes of one name: %s", json_file, first_few(doubles))
    _check_objects(json_file, records.values(), list(distinct.values()), dropped, training)
    return CocoData(list(records.values()), names)


def _image_files(json_file: str, image_root: str, images: Mapping[int, dict]) -> dict[int, str]:
    """Return image id -> path of the file."""
    if not os.path.isdir(image_root):
        raise InputError(f"{image_root}: image folder of {json_file} not found")
    files = {
        key: image_file(json_file, image_root, image["file_name"]) for key, image in images.items()
    }
    folders = {os.path.dirname(path) for path in files.values()}
    present = {path for folder in folders for path in _files_in(folder)}
    missing = [images[key]["file_name"] for key, path in files.items() if path not in present]
    if missing:
        raise InputError(
            f"{json_file}: {len(missing)} of {len(images)} images are missing in {image_root}: "
            f"{first_few([*map(repr, missing)])}"
        )
    return files


def _files_in(folder: str) -> Iterator[str]:
    """Yield the paths of a folder's files; none if it cannot be listed."""
    # One listing: a stat per file takes minutes on a network drive.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a broken link
                if entry.is_file():
                    yield os.path.join(folder, entry.name)


def _check_conventions(json_file: str, entries: CocoEntries, files: Mapping[int, str]) -> None:
    """Refuse boxes in fractions; warn of boxes that look like corners, and of shared files."""
    if are_fractions(entries):
        raise InputError(
            f"{json_file}: all {len(entries.annotations)} boxes lie within 0 to 1, as fractions of "
            "the image: a COCO bbox is x, y, width, height in pixels"
        )
    if corners := look_like_corners(entries):
        logger.warning(
            f"{json_file}: {len(corners)} boxes leave their image, and all would fit as corners "
            "x0, y0, x1, y1: a COCO bbox is x, y, width, height"
        )
    if shared := shared_files(files):
        shown = first_few(
            [f"{path!r}: {first_few([*map(str, ids)])}" for path, ids in shared.items()],
            separator="; ",
        )
        logger.warning(f"{json_file}: {len(shared)} image files have several image ids: {shown}")


def _add_annotations(
    json_file: str, records: dict[int, dict], annotations: dict[int, dict], category_ids: list[int]
) -> int:
    """Move the usable annotations to their images' records; return the number of dropped ones.

    ``annotations`` is empty afterwards: there may be millions, too many for two copies.
    """
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    dropped: dict[str, list[int]] = defaultdict(list)
    for key in list(annotations):
        annotation = annotations.pop(key)
        category_id, image_id = annotation["category_id"], annotation["image_id"]
        if category_id not in classes:
            raise InputError(f"{json_file}: annotation {key} has unknown category id {category_id}")
        if image_id not in records:
            raise InputError(f"{json_file}: annotation {key} has unknown image id {image_id}")
        if fault := annotation_fault(annotation):
            raise InputError(f"{json_file}: annotation {key}: {fault}")
        record = records[image_id]
        fault, box = clip_box(annotation["bbox"], record["width"], record["height"])
        if fault:
            dropped[fault].append(key)
            continue
        record["annotations"].append(
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": classes[category_id],
                "iscrowd": int(annotation.get("iscrowd", 0)),
            }
        )
    total = sum(map(len, dropped.values()))
    if total:
        reasons = "; ".join(
            f"{len(ids)} {fault} (annotations {first_few([*map(str, ids)], 5)})"
            for fault, ids in dropped.items()
        )
        logger.warning("%s: dropped %d boxes: %s", json_file, total, reasons)
    return total


def _check_objects(
    json_file: str, records: Iterable[dict], names: list[str], dropped: int, training: bool
) -> None:
    """Refuse to train on nothing; warn of classes, or validation data, without a box."""
    trained, crowds = Counter(), Counter()  # by class
    for record in records:
        for box in record["annotations"]:
            (crowds if box["iscrowd"] else trained)[box["category_id"]] += 1
    if not trained:
        reasons = [f"{crowds.total()} crowd regions (iscrowd 1)"] if crowds else []
        reasons += [f"{dropped} boxes that are dropped"] if dropped else []
        reason = f"it has {' and '.join(reasons) or 'no annotations'}"
        if training:
            raise InputError(f"{json_file}: no usable annotation to train on: {reason}")
        logger.warning(f"{json_file}: no objects, so that nothing can be scored: {reason}")
    elif training and (classes := untrained_classes(dict(enumerate(names)), trained, crowds)):
        logger.warning(f"{json_file}: classes that are never trained on: {first_few(classes)}")
