"""The reader of COCO JSONs, and what their entries must be: one rule for run, scores and checker.

Booleans are no numbers, although Python's are integers.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection
from numbers import Integral, Real

from detrex.utils.coco_masks import mask_area, mask_box
from detrex.utils.errors import InputError
from detrex.utils.text import first_few

LARGEST_ID = 2**53  # ids travel through float64 arrays in COCO evaluators
_WHOLE = {  # the lists, and which of their entries' values are whole numbers
    "images": {"id", "width", "height"},
    "annotations": {"id", "image_id", "category_id"},
    "categories": {"id"},
}
_KINDS = {int: "a whole number", str: "text", list: "a list"}
_NO_JSON = {  # how files begin that are something else
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"<": "XML or HTML",
}


def read_json(json_file: str | os.PathLike) -> dict:
    """The content of a COCO-format JSON in UTF-8, 16 or 32: its lists images, annotations and
    categories, as :func:`normalise` leaves them, and whatever else it has.

    Raises:
        InputError: with the reason why the file cannot be read or is not in COCO format.
    """
    content = _parse(json_file)
    if isinstance(content, list):
        results = content and isinstance(content[0], dict) and "score" in content[0]
        what = "detections, not annotations" if results else f"a list of {len(content)} entries"
        raise InputError(f"{json_file}: not a COCO file but {what}: {_needed()}")
    if not isinstance(content, dict):
        raise InputError(f"{json_file}: not a COCO file: {_needed()}")
    return normalise(json_file, content)


def _needed() -> str:
    return f"it needs the lists {', '.join(_WHOLE)}"


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
    """Check that the content of a COCO JSON has its lists, and put right what is said in a usual
    other way, in place: 7.0 and "7" for the whole number 7, a segmentation without a bbox, null for
    an iscrowd or area that is not there.

    The list of annotations may be missing, as for COCO's test images; it is empty then. Returns
    the content.

    Raises:
        InputError: a list is missing, or is none; ``name`` says of what.
    """
    content.setdefault("annotations", [])
    for section, keys in _WHOLE.items():
        if not isinstance(content.get(section), list):
            there = first_few([repr(key) for key in content], 6) or "nothing"
            what = "is not a list" if section in content else f"is missing, it has {there}"
            raise InputError(f"{name}: not a COCO file, the list {section!r} {what}")
        for entry in content[section]:
            if isinstance(entry, dict):
                for key in keys & entry.keys():
                    if type(entry[key]) is not int:
                        entry[key] = whole(entry[key])
    for number, entry in enumerate(content["annotations"]):
        if isinstance(entry, dict):
            _normalise_annotation(f"{name}: annotations: entry {number}", entry)
    return content


def _normalise_annotation(where: str, entry: dict) -> None:
    for key in ("iscrowd", "area"):
        if entry.get(key, 0) is None:
            del entry[key]
    if not entry.get("bbox") and entry.get("segmentation"):
        entry["bbox"] = _mask_box(where, entry["segmentation"])


def _mask_box(where: str, segmentation: object) -> list[float]:
    box = mask_box(segmentation)
    if box is None:
        raise InputError(
            f"{where} has no bbox, and its segmentation is neither polygons nor run lengths: "
            f"{segmentation!r:.80}"
        )
    return box


def whole(value: object) -> object:
    """The Python integer that any number or text is if it is whole, 7 for 7.0, "7" or "007.0"; any
    other value as it is."""
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
    """The entries of one of the lists in the order of their ids, after checking their fields.

    Args:
        name: of the file, for errors.
        content: of :func:`read_json`.
        section: "images", "annotations" or "categories".
        fields: key -> int, str or list, what its values must be.

    Raises:
        InputError: naming the first entry that is wrong, and its value.
    """
    entries: dict[int, dict] = {}
    for number, entry in enumerate(content[section]):
        check_entry(name, section, number, entry, {"id": int, **fields})
        if not is_id(entry["id"]):
            raise InputError(
                f"{name}: {section}: entry {number}: the id must be 0 to {LARGEST_ID}, "
                f"got {entry['id']!r:.80}"
            )
        if entry["id"] in entries:
            raise InputError(f"{name}: {section}: id {entry['id']} appears more than once")
        entries[entry["id"]] = entry
    return dict(sorted(entries.items()))


def check_entry(
    name: str | os.PathLike, section: str, number: int, entry: object, fields: dict[str, type]
) -> None:
    """Check that entry ``number`` of a list has these fields; see :func:`by_id`."""
    where = f"{name}: {section}: entry {number}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not an object with keys: {entry!r:.80}")
    for key, kind in fields.items():
        value = entry.get(key)
        if not _is(value, kind):
            where = f"{name}: {section}: id {entry['id']}" if is_id(entry.get("id")) else where
            if key not in entry:
                raise InputError(
                    f"{where} has no {key!r}, only {first_few([*map(repr, entry)], 8) or 'nothing'}"
                )
            raise InputError(f"{where}: {key!r} is not {_KINDS[kind]}: {value!r:.80}")


def _is(value: object, kind: type) -> bool:
    """Whether a JSON value is of this kind: no boolean for a number, no half of a character."""
    return is_text(value) if kind is str else type(value) is kind


def is_text(value: object) -> bool:
    """Whether a value is text that UTF-8 can hold: no half of a character, no undecodable byte."""
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def is_id(value: object) -> bool:
    """Whether the value is an integer that COCO evaluators can take as an id."""
    return type(value) is int and 0 <= value <= LARGEST_ID


def is_finite(value: float) -> bool:
    """Whether the number is finite as a float64."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def annotation_fault(annotation: dict) -> str | None:
    """What is wrong with the kinds of an annotation's bbox, iscrowd and area, or None.

    The numbers of a bbox may have any value. iscrowd and area may be missing.
    """
    box, crowd, area = (
        annotation.get("bbox"),
        annotation.get("iscrowd", 0),
        annotation.get("area", 0),
    )
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox is not four numbers: {box!r:.80}"
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        return f"iscrowd is not 0 or 1: {crowd!r:.80}"
    if not _is_number(area) or not is_finite(area):
        return f"area is not a finite number: {area!r:.80}"
    return None


def area_is_odd(annotation: dict) -> bool:
    """Whether the area of a sound annotation (:func:`annotation_fault`) is neither its mask's nor,
    without a mask, its box's, a tenth and a pixel aside; evaluation calls objects small, medium and
    large by it. False without an area or for a box without a size."""
    width, height = annotation["bbox"][2:]
    if "area" not in annotation or not (width > 0 and height > 0):
        return False
    area, mask = annotation["area"], mask_area(annotation.get("segmentation"))
    least = 0.5 * mask - 1 if mask else 0.9 * max(width - 1, 0) * max(height - 1, 0)
    return area <= 0 or not least <= area <= 1.1 * (width + 1) * (height + 1)


def object_area(annotation: dict) -> float:
    """The area of a sound annotation that evaluation goes by: as stated, else its box's."""
    width, height = annotation["bbox"][2:]
    return annotation["area"] if "area" in annotation else float(width) * height


def distinct_names(categories: Collection[dict]) -> dict[int, str]:
    """Category id -> name, in the order given; names that are there more than once have their id
    behind them."""
    times = Counter(c["name"] for c in categories)
    return {
        c["id"]: f"{c['name']} ({c['id']})" if times[c["name"]] > 1 else c["name"]
        for c in categories
    }


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
