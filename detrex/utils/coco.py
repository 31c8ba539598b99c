"""What the numbers of a COCO JSON must be. Booleans are none, although Python's are integers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from numbers import Real

LARGEST_ID = 2**53  # ids travel through float64 arrays in COCO evaluators


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
