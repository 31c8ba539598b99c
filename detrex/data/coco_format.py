"""Reading a COCO-format JSON with every check that a hand-made data set needs."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter, defaultdict
from typing import NamedTuple

from detectron2.structures import BoxMode

from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)

_SECTIONS = ("images", "annotations", "categories")


class CocoData(NamedTuple):
    records: list[dict]  # detectron2 dataset dicts, in the order of their image ids
    categories: dict[int, str]  # id -> name, in the order of the ids; the i-th one is class i


def load_coco(json_file: str, image_root: str, training: bool = False) -> list[dict]:
    """Return detectron2 dataset dicts; see ``read_coco``."""
    return read_coco(json_file, image_root, training).records


def read_coco(json_file: str, image_root: str, training: bool = False) -> CocoData:
    """Read and check a COCO-format detection data set.

    Boxes are absolute x0, y0, x1, y1, clipped to the image. Boxes without an area inside the image
    are dropped, and counted in one warning. ``category_id`` of the records is the class index
    0..K-1 in the order of the JSON's (possibly sparse) ids. Crowd regions are kept and marked.

    Args:
        json_file: the annotations.
        image_root: folder that holds the images; file names may contain sub-folders.
        training: require at least one box that can be trained on.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    content = _read_json(json_file)
    categories = _by_id(json_file, content, "categories", name=str)
    images = _by_id(json_file, content, "images", file_name=str, width=int, height=int)
    annotations = _by_id(
        json_file, content, "annotations", image_id=int, category_id=int, bbox=list
    )
    if not categories or not images:
        empty = "images" if categories else "categories"
        raise InputError(f"{json_file}: the list {empty!r} is empty")
    _check_image_files(json_file, image_root, [image["file_name"] for image in images.values()])
    records = {
        image_id: {
            "file_name": os.path.join(image_root, image["file_name"]),
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
    return CocoData(list(records.values()), {i: c["name"] for i, c in categories.items()})


def _read_json(json_file: str) -> dict:
    try:
        with open(json_file, encoding="utf-8") as stream:
            content = json.load(stream)
    except FileNotFoundError:
        raise InputError(f"{json_file}: annotation file not found") from None
    except OSError as error:
        raise InputError(f"{json_file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{json_file}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{json_file}: not a COCO file, it needs the lists {', '.join(_SECTIONS)}")
    missing = [key for key in _SECTIONS if not isinstance(content.get(key), list)]
    if missing:
        raise InputError(f"{json_file}: not a COCO file, the list {missing[0]!r} is missing")
    return content


def _by_id(json_file: str, content: dict, section: str, **fields: type) -> dict[int, dict]:
    """Return the entries of a section in the order of their ids, after checking their fields."""
    found: dict[int, dict] = {}
    for number, entry in enumerate(content[section]):
        for key, kind in {"id": int, **fields}.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                label = entry.get("id") if isinstance(entry, dict) else None
                which = f"entry {number}" if label is None else f"id {label}"
                raise InputError(f"{json_file}: {section}: {which} has no {kind.__name__} {key!r}")
        if entry["id"] in found:
            raise InputError(f"{json_file}: {section}: id {entry['id']} appears more than once")
        found[entry["id"]] = entry
    return dict(sorted(found.items()))


def _check_image_files(json_file: str, image_root: str, names: list[str]) -> None:
    if not os.path.isdir(image_root):
        raise InputError(f"{image_root}: image folder of {json_file} not found")
    folders = defaultdict(dict)
    for name in names:
        relative = os.path.relpath(name, image_root) if os.path.isabs(name) else name
        folder, file = os.path.split(os.path.normpath(relative))
        if folder.split(os.sep)[0] == os.pardir or file in (os.pardir, os.curdir):
            raise InputError(f"{json_file}: image file {name!r} is not inside {image_root}")
        folders[folder][file] = name
    missing = []
    for folder, files in folders.items():
        path = os.path.join(image_root, folder)
        # One listing per folder: a stat per file takes minutes on a network file system.
        present = set(os.listdir(path)) if os.path.isdir(path) else set()
        missing += [name for file, name in files.items() if file not in present]
    if missing:
        raise InputError(
            f"{json_file}: {len(missing)} of {len(names)} images are missing in {image_root}: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )


def _add_annotations(
    json_file: str, records: dict[int, dict], annotations: dict[int, dict], category_ids: list[int]
) -> None:
    """Append every usable annotation to its image's record."""
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    dropped: Counter[str] = Counter()
    for key, annotation in annotations.items():
        category_id, image_id = annotation["category_id"], annotation["image_id"]
        if category_id not in classes:
            raise InputError(f"{json_file}: annotation {key} has unknown category id {category_id}")
        if image_id not in records:
            raise InputError(f"{json_file}: annotation {key} has unknown image id {image_id}")
        record, box = records[image_id], annotation["bbox"]
        if len(box) != 4 or not all(isinstance(value, (int, float)) for value in box):
            raise InputError(f"{json_file}: annotation {key}: bbox is not four numbers: {box}")
        fault, box = _inside(box, record["width"], record["height"])
        if fault:
            dropped[fault] += 1
            logger.debug("%s: annotation %s dropped: %s", json_file, key, fault)
            continue
        record["annotations"].append(
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": classes[category_id],
                "iscrowd": annotation.get("iscrowd", 0),
            }
        )
    if dropped:
        reasons = ", ".join(f"{count} {fault}" for fault, count in dropped.items())
        logger.warning("%s: dropped %d boxes: %s", json_file, dropped.total(), reasons)


def _inside(box: list[float], width: int, height: int) -> tuple[str | None, list[float]]:
    """Return why the x, y, w, h box is unusable or None, and its part inside the image."""
    x, y, w, h = box
    if not all(math.isfinite(value) for value in box):
        return "not finite", []
    if w <= 0 or h <= 0:
        return "without a positive size", []
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x0 >= x1 or y0 >= y1:
        return "outside the image", []
    return None, [x0, y0, x1, y1]
