"""COCO's JSON files as box scores need them: ground truth and detections, checked."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence

from detrex.utils.coco import annotation_fault, is_finite, read_json
from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)

# What is read of each entry: evaluators stumble over odd values of keys that they do not need.
_READ = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}


def load_ground_truth(source: str | os.PathLike | dict) -> dict:
    """COCO ground truth with all that box scores need, and no more; ``source`` is not changed.

    Annotations are renumbered from 1: COCO's matching takes the id 0 for "unmatched". Boxes that
    are not finite are left out with a warning; all others count, as COCO has it.
    Raises InputError when the file cannot be read, lacks a key or has a value of a wrong kind.
    """
    name = "ground truth" if isinstance(source, dict) else source
    try:
        if not isinstance(source, dict):
            source = read_json(source)
        sections = {key: _kept(source[key], keys) for key, keys in _READ.items()}
        annotations = _finite(name, sections)
        check_known(annotations, "category_id", source["categories"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: not in COCO format: {error!r}") from None
    return {"info": {}, "licenses": [], **sections, "annotations": annotations}


def _kept(entries: list[dict], keys: Sequence[str]) -> list[dict]:
    return [{key: entry[key] for key in keys if key in entry} for entry in entries]


def _finite(name: str | os.PathLike, sections: dict[str, list[dict]]) -> list[dict]:
    """The annotations of listed images whose boxes are finite, complete."""
    images = {image["id"] for image in sections["images"]}
    found, left_out = [], 0
    for a in sections["annotations"]:
        if a["image_id"] not in images:
            continue
        if fault := annotation_fault(a):
            raise InputError(f"{name}: annotation {a.get('id')}: {fault}")
        if not all(map(is_finite, a["bbox"])):
            left_out += 1
            continue
        area = float(a["bbox"][2]) * a["bbox"][3]
        found.append({"area": area, **a, "iscrowd": int(a.get("iscrowd", 0)), "id": len(found) + 1})
    if left_out:
        logger.warning("%s: %d boxes that are not finite are not scored", name, left_out)
    return found


def load_detections(source: str | os.PathLike, ground_truth: dict) -> list[dict]:
    """Detections in COCO's results format, of images and categories that the ground truth has.

    Raises InputError naming the file: not such a list, or of another data set.
    """
    try:
        with open(source, encoding="utf-8") as stream:
            detections = json.load(stream)
        for detection in detections:
            x, y, width, height = detection["bbox"]
            if not all(map(is_finite, (x, y, width, height, detection["score"]))):
                raise ValueError(f"{detection!r:.150} is not finite")
        check_known(detections, "image_id", ground_truth["images"])
        check_known(detections, "category_id", ground_truth["categories"])
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{source}: detections of another data set: {error}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: not detections in COCO's results format: {error!r}") from None
    return detections


def check_known(records: Iterable[dict], key: str, known: Iterable[dict]) -> None:
    """Check that the ground truth has the image or category (``key``) of every record.

    Raises:
        InputError: it lacks some; names the first.
    """
    unknown = {record[key] for record in records} - {entry["id"] for entry in known}
    if unknown:
        shown = ", ".join(str(value) for value in sorted(unknown)[:5])
        raise InputError(f"{len(unknown)} unknown {key}s, not in the ground truth JSON: {shown}")
