"""COCO JSONs: reading one, and what its numbers must be.

Booleans are no numbers, although Python's are integers.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection
from numbers import Real

from detrex.utils.errors import InputError

_SECTIONS = ("images", "annotations", "categories")
LARGEST_ID = 2**53  # ids travel through float64 arrays in COCO evaluators


def read_json(json_file: str | os.PathLike) -> dict:
    """The content of a COCO-format JSON that has its three lists. Raises InputError."""
    try:
        with open(json_file, encoding="utf-8") as stream:
            content = json.load(stream)
    except FileNotFoundError:
        raise InputError(
            f"{json_file}: annotation file not found; of data in another layout than COCO's"
            " tools/check_dataset.py writes it"
        ) from None
    except OSError as error:
        raise InputError(f"{json_file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{json_file}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{json_file}: not a COCO file, it needs the lists {', '.join(_SECTIONS)}")
    missing = [key for key in _SECTIONS if not isinstance(content.get(key), list)]
    if missing:
        raise InputError(f"{json_file}: not a COCO file, the list {missing[0]!r} is missing")
    return content


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
    box, crowd, area = annotation["bbox"], annotation.get("iscrowd", 0), annotation.get("area", 0)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox is not four numbers: {box!r:.80}"
    if not isinstance(crowd, int | float) or crowd not in (0, 1):
        return f"iscrowd is not 0 or 1: {crowd!r:.80}"
    if not _is_number(area) or not is_finite(area):
        return f"area is not a finite number: {area!r:.80}"
    return None


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
