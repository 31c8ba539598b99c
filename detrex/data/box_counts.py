"""How many boxes a data set has: in all, of each class, in an image, of each size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .coco_columns import Columns
from .coco_rules import clip_boxes


class BoxCounts(NamedTuple):
    """Counts of boxes. "Trained" ones are usable and no crowd regions.

    Attributes:
        of_class: (K,) all boxes, by class.
        most: trained boxes of the fullest image.
        most_of_a_class: the most trained boxes of one class in an image.
        sizes: trained boxes by area, from the smallest areas to the largest.
    """

    of_class: np.ndarray
    most: int
    most_of_a_class: int
    sizes: tuple[int, ...]


def count_boxes(columns: Columns, size_limits: Sequence[float]) -> BoxCounts:
    """Count the boxes of a data set.

    Args:
        columns: the data set.
        size_limits: ascending areas in square pixels; the first belongs to the second size.
    """
    classes, most, most_of_a_class = len(columns.categories), 0, 0
    of_class, sizes = np.zeros(classes, np.int64), np.zeros(len(size_limits) + 1, np.int64)
    for images, rows in columns.blocks():
        boxes = columns.boxes(rows.start, rows.stop)
        faults, _ = clip_boxes(boxes, columns.sizes(images))
        of_class += np.bincount(columns.category[rows], minlength=classes)
        trained = (faults == 0) & (columns.iscrowd[rows] == 0)
        owner = np.repeat(np.arange(images.stop - images.start), columns.counts(images))[trained]
        category = columns.category[rows][trained]
        most = max(most, *np.bincount(owner, minlength=1).tolist())
        keys = owner * classes + category
        most_of_a_class = max(most_of_a_class, *np.unique_counts(keys).counts.tolist(), 0)
        stated = columns.area[rows][trained].astype(np.float64)
        areas = np.where(np.isnan(stated), boxes[trained, 2] * boxes[trained, 3], stated)
        sizes += np.bincount(
            np.searchsorted(size_limits, areas, side="right"), minlength=len(sizes)
        )
        columns.release()
    return BoxCounts(of_class, most, most_of_a_class, tuple(sizes.tolist()))
