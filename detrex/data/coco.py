"""The reader of COCO JSON files: for training, for scores and for the checks of a data set.

What makes a box or an area unusable is in :mod:`detrex.data.coco_rules`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection
from numbers import Integral
from typing import NamedTuple

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .coco_masks import mask_box

LARGEST_ID = 2**53  # ids travel through float64 arrays in COCO evaluators
FIELDS = {  # list -> what its entries need for training
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
_KINDS = {int: "a whole number", str: "text", list: "a list"}
_NO_JSON = {  # first bytes of files that are something else
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"<": "XML or HTML",
}


class CocoEntries(NamedTuple):
    """The entries of a COCO JSON by id, in the order of their ids."""

    categories: dict[int, dict]
    images: dict[int, dict]
    annotations: dict[int, dict]


def read_entries(json_file: str | os.PathLike) -> CocoEntries:
    """Read a COCO JSON and check the keys, ids and image sizes of its entries.

    Raises:
        InputError: naming the file and the first entry that is wrong.
    """
    content = read_json(json_file)
    lists = {section: by_id(json_file, content, section, f) for section, f in FIELDS.items()}
    entries = CocoEntries(**lists)
    if not entries.categories or not entries.images:
        empty = "images" if entries.categories else "categories"
        raise InputError(f"{json_file}: the list {empty!r} is empty")
    for image_id, image in entries.images.items():
        check_size(json_file, image_id, image["width"], image["height"])
    return entries


def check_size(json_file: str | os.PathLike, image_id: int, width: int, height: int) -> None:
    """Check that an image has an area.

    Raises:
        InputError: naming the image.
    """
    if min(width, height) <= 0:
        raise InputError(
            f"{json_file}: images: id {image_id}: width and height must be positive, "
            f"got {width} and {height}"
        )


def read_json(json_file: str | os.PathLike) -> dict:
    """Return the content of a COCO JSON (UTF-8, 16 or 32) after :func:`normalise`.

    Raises:
        InputError: with the reason why the file cannot be read or is not in COCO format.
    """
    content = _parse(json_file)
    needed = f"it needs the lists {', '.join(FIELDS)}"
    if isinstance(content, list):
        results = content and isinstance(content[0], dict) and "score" in content[0]
        what = "detections, not annotations" if results else f"a list of {len(content)} entries"
        raise InputError(f"{json_file}: not a COCO file but {what}: {needed}")
    if not isinstance(content, dict):
        raise InputError(f"{json_file}: not a COCO file: {needed}")
    return normalise(json_file, content)


def _parse(json_file: str | os.PathLike) -> object:
    if os.path.exists(json_file) and not os.path.isfile(json_file):
        raise InputError(f"{json_file}: cannot be read: it is not a file")
    try:
        with open(json_file, "rb") as stream:
            start = stream.read(32)
            if kind := next((text for sign, text in _NO_JSON.items() if start.startswith(sign)), 0):
                raise InputError(f"{json_file}: not a JSON file but {kind}")
            stream.seek(0)
            return json.loads(stream.read())
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{json_file}: annotation file not found; of data in another layout than COCO's"
            " tools/check_dataset.py writes it"
        ) from None
    except OSError as error:
        raise InputError(f"{json_file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{json_file}: not a JSON file ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return f"byte {byte:#x} at {error.start} is not {error.encoding.upper()}: save it as UTF-8"
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data" and error.lineno > 1:
        return f"a second value begins in line {error.lineno}: JSON Lines are not read"
    return str(error)


def normalise(name: str | os.PathLike, content: dict) -> dict:
    """Check that the content of a COCO JSON has its lists; rewrite usual variants in place.

    Whole numbers may be written 7.0 or "7"; a missing file_name is the end of LVIS's coco_url,
    "val2017/000000000139.jpg"; a missing bbox is taken from the segmentation; an
    iscrowd or area of null is removed. Without a list of annotations (COCO's test images) it is
    empty. Returns the content.

    Raises:
        InputError: a list is missing, or is not a list; the message begins with ``name``.
    """
    content.setdefault("annotations", [])
    for section in FIELDS:
        if not isinstance(content.get(section), list):
            raise list_error(name, section, content)
        normalise_entries(name, section, content[section])
    return content


class MissingList(InputError):
    """A JSON is not COCO's: it lacks one of its lists."""


def list_error(name: str | os.PathLike, section: str, keys: Collection[str]) -> MissingList:
    """Return the error for a list that a JSON with these keys does not have."""
    there = first_few([repr(key) for key in keys], 6) or "nothing"
    what = "is not a list" if section in keys else f"is missing, it has {there}"
    return MissingList(f"{name}: not a COCO file, the list {section!r} {what}")


def normalise_entries(name: str | os.PathLike, section: str, entries: list, first: int = 0) -> None:
    """Rewrite the entries of a list, from number ``first`` on, as :func:`normalise` does."""
    keys = {key for key, kind in FIELDS[section].items() if kind is int}
    for number, entry in enumerate(entries, first):
        if not isinstance(entry, dict):
            continue
        for key in keys & entry.keys():
            if type(entry[key]) is not int:
                entry[key] = whole(entry[key])
        if section == "images" and "file_name" not in entry and "coco_url" in entry:  # LVIS
            entry["file_name"] = "/".join(str(entry["coco_url"]).split("/")[-2:])
        if section == "annotations":
            _normalise_annotation(f"{name}: annotations: entry {number}", entry)


def _normalise_annotation(where: str, entry: dict) -> None:
    for key in ("iscrowd", "area"):
        if entry.get(key, 0) is None:
            del entry[key]
    segmentation = entry.get("segmentation")
    if segmentation and not entry.get("bbox"):
        entry["bbox"] = mask_box(segmentation)
        if entry["bbox"] is None:
            raise InputError(
                f"{where} has no bbox, and its segmentation is neither polygons nor run lengths: "
                f"{segmentation!r:.80}"
            )


def whole(value: object) -> object:
    """Return a whole number as a Python integer: 7 for 7.0, "7" or "007.0". Any other value is
    returned as it is."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,16}(\.0*)?\s*", value, re.ASCII):
        return int(value.split(".")[0])
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_ID:
        return int(value)
    return value


def by_id(
    name: str | os.PathLike, content: dict, section: str, fields: dict[str, type]
) -> dict[int, dict]:
    """Return the entries of a list by id, in the order of their ids, after checking their fields.

    Args:
        name: the file's, for error messages.
        content: what :func:`read_json` returns.
        section: "images", "annotations" or "categories".
        fields: key -> type of its values: int, str or list.

    Raises:
        InputError: naming the first entry that is wrong, and its value.
    """
    entries: dict[int, dict] = {}
    for number, entry in enumerate(content[section]):
        check_numbered(name, section, number, entry, fields)
        if entry["id"] in entries:
            raise double_id(name, section, entry["id"])
        entries[entry["id"]] = entry
    return dict(sorted(entries.items()))


def double_id(name: str | os.PathLike, section: str, number: int) -> InputError:
    """Return the error for an id that two entries have."""
    return InputError(f"{name}: {section}: id {number} appears more than once")


def check_numbered(
    name: str | os.PathLike, section: str, number: int, entry: object, fields: dict[str, type]
) -> None:
    """Check that entry ``number`` of a list has an id and these fields; see :func:`by_id`."""
    check_entry(name, section, number, entry, {"id": int, **fields})
    if not is_id(entry["id"]):
        raise InputError(
            f"{name}: {section}: entry {number}: the id must be 0 to {LARGEST_ID}, "
            f"got {entry['id']!r:.80}"
        )


def check_entry(
    name: str | os.PathLike, section: str, number: int, entry: object, fields: dict[str, type]
) -> None:
    """Check that entry ``number`` of a list has these fields; see :func:`by_id`."""
    where = f"{name}: {section}: entry {number}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not an object with keys: {entry!r:.80}")
    for key, kind in fields.items():
        value = entry.get(key)
        if type(value) is not kind:  # isinstance takes True for an integer
            where = f"{name}: {section}: id {entry['id']}" if is_id(entry.get("id")) else where
            if key not in entry:
                raise InputError(
                    f"{where} has no {key!r}, only {first_few([*map(repr, entry)], 8) or 'nothing'}"
                )
            raise InputError(f"{where}: {key!r} is not {_KINDS[kind]}: {value!r:.80}")


def is_id(value: object) -> bool:
    """Whether the value is an integer that COCO evaluators can take as an id."""
    return type(value) is int and 0 <= value <= LARGEST_ID


def distinct_names(categories: Collection[dict]) -> dict[int, str]:
    """Return category id -> name, in the given order; a name that occurs twice gets its id:
    "bolt (3)"."""
    times = Counter(c["name"] for c in categories)
    return {
        c["id"]: f"{c['name']} ({c['id']})" if times[c["name"]] > 1 else c["name"]
        for c in categories
    }
