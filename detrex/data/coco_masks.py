"""Box and area of a COCO segmentation: polygons or run lengths."""

from __future__ import annotations

from numbers import Real

import numpy as np

LARGEST = 2**40  # pixels in a mask


def mask_box(segmentation: object) -> list[float] | None:
    """Return the box x, y, width, height in pixels around a segmentation; None if it is invalid."""
    if polygons := _polygons(segmentation):
        points = np.concatenate(polygons)
        low, high = points.min(0), points.max(0)
        return [*low.tolist(), *(high - low).tolist()]
    return None if (mask := _run_lengths(segmentation)) is None else mask[0]


def mask_area(segmentation: object) -> float | None:
    """Return the area of a segmentation in square pixels, where overlapping polygons count twice;
    None if it is invalid."""
    if polygons := _polygons(segmentation):
        shoelaces = (x @ np.roll(y, 1) - y @ np.roll(x, 1) for x, y in (p.T for p in polygons))
        return sum(0.5 * abs(float(shoelace)) for shoelace in shoelaces)
    return None if (mask := _run_lengths(segmentation)) is None else mask[1]


def _polygons(segmentation: object) -> list[np.ndarray] | None:
    """Return the points (N, 2) of each polygon, or of a flat list of numbers; None if invalid."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = [segmentation] if isinstance(segmentation[0], Real) else segmentation
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 4:
            return None
        if not all(isinstance(value, Real) for value in polygon):
            return None
    points = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
    return points if np.isfinite(np.concatenate(points)).all() else None


def _run_lengths(segmentation: object) -> tuple[list[float], float] | None:
    """Return box and area of a run-length mask, compressed (text) or not (a list); None if invalid.

    Not by pycocotools, which writes outside its memory, or divides by zero, for invalid ones.
    """
    if not isinstance(segmentation, dict):
        return None
    counts, size = segmentation.get("counts"), segmentation.get("size")
    counts = _uncompressed(counts) if isinstance(counts, str) else counts
    if not _naturals(counts) or not _naturals(size) or len(size) != 2 or min(size) == 0:
        return None
    if sum(counts) > size[0] * size[1] or size[0] * size[1] > LARGEST:
        return None
    height, ends = size[0], np.cumsum(np.array(counts, np.int64))
    first, last = ends[:-1:2], ends[1::2] - 1  # of each run inside the mask, column by column
    first, last = first[first <= last], last[first <= last]
    if not len(first):
        return [0, 0, 0, 0], 0
    x, x1 = first.min() // height, last.max() // height + 1
    y, y1 = (first % height).min(), (last % height).max() + 1
    if (first // height < last // height).any():
        y, y1 = 0, height
    return [*map(int, (x, y, x1 - x, y1 - y))], float((last - first + 1).sum())


def _naturals(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= LARGEST for v in values)


def _uncompressed(text: str) -> list[int] | None:
    """Return run lengths from COCO's text; None if it is invalid.

    A character is "0" plus six bits: five of a number, lowest first, and one that says that the
    number goes on. From the fourth on, a number is the difference to the last but one.
    """
    counts, value, shift = [], 0, 0
    for code in text.encode(errors="replace"):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 50:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << shift - 4  # the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
