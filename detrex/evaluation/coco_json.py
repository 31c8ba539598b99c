"""COCO's JSON files as box scores need them: ground truth and detections, checked."""

from __future__ import annotations

import json
import logging
import math
import os
from array import array
from collections.abc import Iterable, Mapping

import numpy as np

from detrex.data.coco import by_id, check_entry, normalise, read_json, whole
from detrex.data.coco_columns import Columns
from detrex.data.coco_index import indexed_columns
from detrex.data.coco_rules import annotation_fault, area_is_odd, object_area
from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)

# The keys that are read: evaluators stumble over odd values of keys that they do not need.
_READ = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_NO_KEYS: Mapping[str, tuple[str, ...]] = {}


def load_ground_truth(
    source: str | os.PathLike | dict, keys: Mapping[str, tuple[str, ...]] = _NO_KEYS
) -> dict:
    """Return COCO ground truth with only the keys that box scores need; of a large file that was
    read before from its index (:mod:`detrex.data.coco_index`).

    Annotations are renumbered from 1: COCO's matching takes the id 0 for "unmatched". Boxes that
    are not finite are left out with a warning; all others count, as in COCO's own evaluator. Areas
    count as they are written, with a warning if they are not the objects'.

    Args:
        source: a COCO JSON file, or its content, which is not changed.
        keys: more keys of the entries of "images" and "categories" to return as they are.

    Raises:
        InputError: the file cannot be read, lacks a key or has a value of a wrong type.
    """
    if isinstance(source, dict):
        name, content = "ground truth", normalise("ground truth", _copied(source))
    elif not keys and (columns := indexed_columns(source)) and not columns.summary.left_out:
        return _indexed(source, columns)
    else:
        name, content = source, read_json(source)
    images = by_id(name, content, "images", {})
    categories = by_id(name, content, "categories", {"name": str})
    annotations = _scored(name, content["annotations"], images)
    try:
        check_known(annotations, "category_id", categories.values())
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    lists = {
        k: [_read(e, k, keys.get(k, ())) for e in content[k]] for k in ("images", "categories")
    }
    return {"info": {}, "licenses": [], "annotations": annotations, **lists}


def _indexed(name: str | os.PathLike, columns: Columns) -> dict:
    """Return :func:`load_ground_truth` of an index: images and the objects of each by their ids."""
    images, annotations, odd_areas = [], [], 0
    category_ids = np.array(list(columns.categories))
    for block, rows in columns.blocks():
        images += _entries(
            id=columns.image_id[block].tolist(),
            file_name=columns.names(block.start, block.stop),
            width=columns.width[block].tolist(),
            height=columns.height[block].tolist(),
        )
        boxes, areas = columns.boxes(rows.start, rows.stop), columns.area[rows].astype(np.float64)
        finite = np.isfinite(boxes).all(1)
        annotations += _entries(
            image_id=np.repeat(columns.image_id[block], columns.counts(block))[finite].tolist(),
            category_id=category_ids[columns.category[rows]][finite].tolist(),
            bbox=boxes[finite].tolist(),
            area=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)[finite].tolist(),
            iscrowd=columns.iscrowd[rows][finite].tolist(),
        )
        odd_areas += int(columns.odd_area[rows][finite].sum())
    for number, entry in enumerate(annotations, 1):
        entry["id"] = number
    _warn(name, len(columns.id) - len(annotations), odd_areas, len(annotations))
    categories = _entries(id=columns.categories.keys(), name=columns.categories.values())
    lists = {"images": images, "annotations": annotations, "categories": categories}
    return {"info": {}, "licenses": [], **lists}


def _entries(**columns: Iterable) -> list[dict]:
    """Return an entry for each row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _copied(source: dict) -> dict:
    lists = {key: source[key] for key in _READ if isinstance(source.get(key), list)}
    copies = {k: [dict(e) if isinstance(e, dict) else e for e in v] for k, v in lists.items()}
    return {**source, **copies}


def _read(entry: dict, section: str, keys: tuple[str, ...] = ()) -> dict:
    return {key: entry[key] for key in (*_READ[section], *keys) if key in entry}


def _scored(name: str | os.PathLike, annotations: list, images: dict[int, dict]) -> list[dict]:
    """Return the annotations of listed images whose boxes are finite, with id, area and iscrowd."""
    scored, left_out, odd_areas = [], 0, 0
    for number, entry in enumerate(annotations):
        check_entry(name, "annotations", number, entry, {"image_id": int, "category_id": int})
        if entry["image_id"] not in images:
            continue
        if fault := annotation_fault(entry):
            raise InputError(f"{name}: annotation {entry.get('id', number)!r:.20}: {fault}")
        if not all(map(math.isfinite, entry["bbox"])):
            left_out += 1
            continue
        odd_areas += area_is_odd(entry)
        added = {"id": len(scored) + 1, "area": object_area(entry)}
        added["iscrowd"] = int(entry.get("iscrowd", 0))
        scored.append({**_read(entry, "annotations"), **added})
    _warn(name, left_out, odd_areas, len(scored))
    return scored


def _warn(name: str | os.PathLike, left_out: int, odd_areas: int, scored: int) -> None:
    if left_out:
        logger.warning("%s: %d boxes that are not finite are not scored", name, left_out)
    if odd_areas:
        logger.warning(
            f"{name}: {odd_areas} of {scored} areas are not their objects': scores of small, "
            "medium and large objects go by them"
        )


def has_objects(ground_truth: dict) -> bool:
    """Whether there is an annotation to score, one that is no crowd region."""
    return any(not annotation["iscrowd"] for annotation in ground_truth["annotations"])


def load_detections(source: str | os.PathLike, ground_truth: dict) -> list[dict]:
    """Return detections in COCO's results format, of images and categories of the ground truth.

    Raises:
        InputError: the file is not such a list, or belongs to another data set.
    """
    entries: list[dict] = []
    load_detection_rows(source, ground_truth, entries)
    return entries


def load_detection_rows(
    source: str | os.PathLike, ground_truth: dict, entries: list[dict] | None = None
) -> np.ndarray:
    """Return :func:`load_detections` as rows (D, 7): image id, x, y, w, h, score, category id.

    It takes a tenth of their memory, in reading, too. ``entries`` receives them as they are, with
    whole numbers as ids.
    """
    rows = array("d")

    def add_row(entry: dict) -> dict | None:
        """Add an entry as soon as it is read, leave alone what is nested in one (a mask)."""
        if "bbox" not in entry:
            return entry
        x, y, w, h = entry["bbox"]
        ids = [whole(entry[key]) for key in ("image_id", "category_id")]
        values = (x, y, w, h, entry["score"])
        if bool in map(type, values) or not all(map(math.isfinite, values)):
            number = len(rows) // 7
            raise ValueError(f"entry {number} has a bbox or score that is no finite number")
        if not all(type(id_) is int for id_ in ids):
            raise ValueError(f"entry {len(rows) // 7} has an id that is no number: {ids}")
        rows.extend((ids[0], x, y, w, h, entry["score"], ids[1]))
        if entries is not None:
            entries.append({**entry, "image_id": ids[0], "category_id": ids[1]})
        return None

    try:
        content = json.loads(_text(source), object_hook=add_row)
        if content != [None] * (len(rows) // 7):
            raise TypeError("not a list of entries with a bbox")
        records = [
            [{key: int(id_)} for id_ in set(rows[column::7])]
            for column, key in ((0, "image_id"), (6, "category_id"))
        ]
        check_known(records[0], "image_id", ground_truth["images"])
        check_known(records[1], "category_id", ground_truth["categories"])
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{source}: detections of another data set: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{source}: not detections in COCO's results format: {error!r}") from None
    return np.frombuffer(rows).reshape(-1, 7)


def _text(source: str | os.PathLike) -> str:
    with open(source, "rb") as stream:
        content = stream.read()
    return content.decode(json.detect_encoding(content))


def check_known(records: Iterable[dict], key: str, known: Iterable[dict]) -> None:
    """Check that every record's image or category (``key``) is in the ground truth.

    Raises:
        InputError: naming the first five that are not.
    """
    unknown = {record[key] for record in records} - {entry["id"] for entry in known}
    if unknown:
        shown = ", ".join(str(value) for value in sorted(unknown)[:5])
        raise InputError(f"{len(unknown)} unknown {key}s, not in the ground truth JSON: {shown}")
