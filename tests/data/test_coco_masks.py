"""Boxes and areas of segmentations, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from detrex.data.coco_masks import mask_area, mask_box


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of zeros, ones, zeros ... column by column."""
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = [0, *([0] if flat[0] else []), *changes.tolist(), flat.size]
    return np.diff(edges).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_as_pycocotools_has_them(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 300, 2))
    mask = np.asfortranarray((rng.random((height, width)) < rng.random() ** 9).astype(np.uint8))
    top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
    mask[top : top + int(rng.integers(0, 99)), left : left + int(rng.integers(0, 99))] = 1
    encoded = coco.encode(mask)
    expected = coco.toBbox(encoded).tolist(), float(mask.sum())
    compressed = {"size": [height, width], "counts": encoded["counts"].decode()}
    assert (mask_box(compressed), mask_area(compressed)) == expected
    plain = {"size": [height, width], "counts": run_lengths(mask)}
    assert (mask_box(plain), mask_area(plain)) == expected


def test_polygons():
    square, triangle = [1, 2, 11, 2, 11, 12, 1, 12], [20, 5, 24, 5, 20, 8.5]
    assert mask_box([square, triangle]) == [1, 2, 23, 10]
    assert mask_area([square, triangle]) == 100 + 7
    assert mask_box(triangle) == [20, 5, 4, 3.5]  # one, not in a list


@pytest.mark.parametrize(
    "odd",
    [
        *([], [[]], [[1, 2, 3]], [[1, "2", 3, 4]], [[1, 2, float("nan"), 4]]),
        *("x", 5, {}, {"size": [5, 6]}, {"size": [5, 6], "counts": 7}),
        *({"size": [5, 6], "counts": c} for c in ([-1, 5], ["a"], [31], [1.5], "~~", "\xff", "x")),
        *({"size": s, "counts": [1, 2]} for s in ([0, 6], [-5, 6], [5], ["5", 6], [10**30, 6])),
    ],
)
def test_what_is_no_segmentation_has_no_box(odd):
    assert mask_box(odd) is None and mask_area(odd) is None
