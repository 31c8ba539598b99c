"""Reading a COCO-format JSON with every check that a hand-made data set needs."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from detectron2.structures import BoxMode

from detrex.utils.coco import (
    LARGEST_ID,
    annotation_fault,
    distinct_names,
    is_finite,
    is_id,
    read_json,
)
from detrex.utils.errors import InputError
from detrex.utils.text import first_few

logger = logging.getLogger(__name__)

MIN_SIDE = 1e-3  # pixels; float32 cannot tell the sides of a smaller box in a large image


class CocoData(NamedTuple):
    """What :func:`read_coco` returns."""

    records: list[dict]  # detectron2 dataset dicts, in the order of their image ids
    categories: dict[int, str]  # id -> name, in the order of the ids; the i-th one is class i


class CocoEntries(NamedTuple):
    """The entries of a COCO JSON by id, in the order of their ids."""

    categories: dict[int, dict]
    images: dict[int, dict]
    annotations: dict[int, dict]


def load_coco(json_file: str, image_root: str, training: bool = False) -> list[dict]:
    """Return detectron2 dataset dicts; see ``read_coco``."""
    return read_coco(json_file, image_root, training).records


def read_coco(json_file: str, image_root: str, training: bool = False) -> CocoData:
    """Read and check a COCO-format detection data set.

    Boxes are absolute x0, y0, x1, y1, clipped to the image. Boxes that are not finite or without
    an area inside the image are dropped, counted and named in one warning. ``category_id`` of the
    records is the class index 0..K-1 in the order of the JSON's (possibly sparse) ids. Crowd
    regions are kept and marked. Image files may be links. Categories of one name stay apart, with a
    warning.

    Args:
        json_file: the annotations.
        image_root: folder that holds the images; file names may contain sub-folders.
        training: require at least one box that can be trained on.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    categories, images, annotations = read_entries(json_file)
    files = _image_files(json_file, image_root, [image["file_name"] for image in images.values()])
    records = {
        image_id: {
            "file_name": files[image["file_name"]],
            "image_id": image_id,
            "height": image["height"],
            "width": image["width"],
            "annotations": [],
        }
        for image_id, image in images.items()
    }
    _add_annotations(json_file, records, annotations, list(categories))
    boxes = (box for record in records.values() for box in record["annotations"])
    if training and all(box["iscrowd"] for box in boxes):
        raise InputError(f"{json_file}: no usable annotation to train on")
    names = {i: c["name"] for i, c in categories.items()}
    distinct = distinct_names(categories.values())
    if doubles := [name for i, name in distinct.items() if name != names[i]]:
        logger.warning("%s: classes of one name: %s", json_file, first_few(doubles))
    return CocoData(list(records.values()), names)


def read_entries(json_file: str) -> CocoEntries:
    """Read a COCO-format JSON and check its entries' keys, ids and image sizes.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    content = read_json(json_file)
    categories = _by_id(json_file, content, "categories", name=str)
    images = _by_id(json_file, content, "images", file_name=str, width=int, height=int)
    annotations = _by_id(
        json_file, content, "annotations", image_id=int, category_id=int, bbox=list
    )
    if not categories or not images:
        empty = "images" if categories else "categories"
        raise InputError(f"{json_file}: the list {empty!r} is empty")
    for image_id, image in images.items():
        if min(image["width"], image["height"]) <= 0:
            raise InputError(
                f"{json_file}: images: id {image_id}: width and height must be positive"
            )
    return CocoEntries(categories, images, annotations)


def _by_id(json_file: str, content: dict, section: str, **fields: type) -> dict[int, dict]:
    """Return the entries of a section in the order of their ids, after checking their fields."""
    found: dict[int, dict] = {}
    for number, entry in enumerate(content[section]):
        for key, kind in {"id": int, **fields}.items():
            if not isinstance(entry, dict) or not _is(entry.get(key), kind):
                label = entry.get("id") if isinstance(entry, dict) else None
                which = f"id {label}" if is_id(label) else f"entry {number}"
                raise InputError(f"{json_file}: {section}: {which} has no {kind.__name__} {key!r}")
        if not is_id(entry["id"]):
            raise InputError(
                f"{json_file}: {section}: entry {number}: the id must be 0 to {LARGEST_ID}"
            )
        if entry["id"] in found:
            raise InputError(f"{json_file}: {section}: id {entry['id']} appears more than once")
        found[entry["id"]] = entry
    return dict(sorted(found.items()))


def _is(value: object, kind: type) -> bool:
    """Whether a JSON value is of this kind: no boolean for a number, no half of a character."""
    if kind is str:
        return isinstance(value, str) and value == value.encode(errors="ignore").decode()
    return type(value) is kind


def _image_files(json_file: str, image_root: str, names: list[str]) -> dict[str, str]:
    """Return the path of each image file."""
    if not os.path.isdir(image_root):
        raise InputError(f"{image_root}: image folder of {json_file} not found")
    files = {name: image_file(json_file, image_root, name) for name in names}
    folders = {os.path.dirname(path) for path in files.values()}
    present = {path for folder in folders for path in _files_in(folder)}
    missing = [name for name, path in files.items() if path not in present]
    if missing:
        raise InputError(
            f"{json_file}: {len(missing)} of {len(names)} images are missing in {image_root}: "
            f"{first_few([*map(repr, missing)])}"
        )
    return files


def image_file(json_file: str, image_root: str, name: str) -> str:
    """Return the path of an image that a COCO JSON names, relative to the root or absolute.

    Raises:
        InputError: it is not inside ``image_root``; links that lie there are.
    """
    relative = os.path.relpath(name, image_root) if os.path.isabs(name) else os.path.normpath(name)
    parts = name.replace(os.sep, "/").split("/")
    if os.pardir in (*parts, *relative.split(os.sep)) or parts[-1] in ("", os.curdir):
        raise InputError(f"{json_file}: image file {name!r} is not inside {image_root}")
    return os.path.join(image_root, relative)


def _files_in(folder: str) -> Iterator[str]:
    """Paths of a folder's files. One listing: a stat per file takes minutes on a network drive."""
    try:
        with os.scandir(folder) as entries:
            yield from (os.path.join(folder, entry.name) for entry in entries if entry.is_file())
    except OSError:  # no such folder, or nobody may look into it: its files are missing
        return


def _add_annotations(
    json_file: str, records: dict[int, dict], annotations: dict[int, dict], category_ids: list[int]
) -> None:
    """Move every usable annotation to its image's record; ``annotations`` is empty afterwards."""
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    dropped: dict[str, list[int]] = defaultdict(list)
    for key in list(annotations):
        annotation = annotations.pop(key)  # there may be millions: two copies are too many
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
    if dropped:
        total = sum(map(len, dropped.values()))
        logger.warning("%s: dropped %d boxes: %s", json_file, total, _reasons(dropped))


def _reasons(dropped: dict[str, list[int]]) -> str:
    return "; ".join(
        f"{len(ids)} {fault} (annotations {first_few([*map(str, ids)], 5)})"
        for fault, ids in dropped.items()
    )


def clip_box(box: list[float], width: int, height: int) -> tuple[str | None, list[float]]:
    """Return why the x, y, w, h box is unusable or None, and its part inside the image (xyxy)."""
    if not all(map(is_finite, box)):
        return "not finite", []
    x, y, w, h = box
    if w < MIN_SIDE or h < MIN_SIDE:
        return "without a positive size", []
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 - x0 < MIN_SIDE or y1 - y0 < MIN_SIDE:
        return "outside the image", []
    return None, [x0, y0, x1, y1]
