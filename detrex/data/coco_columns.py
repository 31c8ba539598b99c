"""The entries of a COCO JSON as arrays, in memory or in files that all processes share.

I images in the order of their ids, A annotations by image, then by id, K classes.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from .coco import distinct_names
from .coco_kinds import LeftOut
from .coco_rules import Boxes, BoxFault, are_fractions, clip_boxes, look_like_corners

LARGE = 100_000  # annotations from which on arrays are files
BLOCK = 1 << 20  # rows that are computed with at once
BOX = ("x", "y", "w", "h")


@dataclass(frozen=True)
class Summary:
    """What a reader warns of, so that it need not look at all boxes again.

    Attributes:
        fractions: boxes look like fractions of the image.
        corners: boxes that look like corners.
        dropped: BoxFault -> number of such boxes, and the first annotation ids.
        trained: boxes that are trained on, by class.
        crowds: crowd regions, by class.
        left_out: annotations that are not in the columns.
    """

    fractions: bool
    corners: int
    dropped: dict[str, tuple[int, list[int]]]
    trained: list[int]
    crowds: list[int]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Columns:
    """A data set. Numbers have the smallest type that holds them exactly.

    Attributes:
        image_id, width, height: (I,).
        name: bytes of all file names, one after the other.
        name_end: (I,) where they end.
        first: (I + 1,) where an image's annotations begin in the arrays of (A,).
        has_objects: (I,) whether the image has a usable box that is no crowd region.
        id, x, y, w, h, iscrowd: (A,) as in the JSON.
        category: (A,) class index.
        area: (A,) as stated, NaN if it is not.
        odd_area: (A,) whether it is not the object's; see :func:`coco_rules.area_is_odd`.
        categories: id -> name, by id; the i-th one is class i.
        folder: of the files; None in memory.
    """

    image_id: np.ndarray
    width: np.ndarray
    height: np.ndarray
    name: np.ndarray
    name_end: np.ndarray
    first: np.ndarray
    has_objects: np.ndarray
    id: np.ndarray
    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    h: np.ndarray
    iscrowd: np.ndarray
    category: np.ndarray
    area: np.ndarray
    odd_area: np.ndarray
    categories: dict[int, str]
    summary: Summary | None
    folder: Path | None = None

    def __reduce__(self) -> tuple:
        if self.folder is None:
            return Columns, tuple(getattr(self, f.name) for f in fields(self))
        return open_columns, (self.folder,)

    def names(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the file names of images ``start`` to ``stop`` as the JSON has them."""
        ends = self.name_end[start:stop].tolist()
        begin = int(self.name_end[start - 1]) if start else 0
        text, names = bytes(self.name[begin : ends[-1]]) if ends else b"", []
        for last, end in zip([begin, *ends], ends, strict=False):
            names.append(text[last - begin : end - begin].decode(errors="surrogatepass"))
        return names

    def boxes(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return boxes (N, 4) x, y, w, h of annotations ``start`` to ``stop``."""
        return np.stack([getattr(self, k)[start:stop] for k in BOX], 1).astype(np.float64)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yield (images, their annotations) that fit well into memory."""
        start, images = 0, len(self.image_id)
        while start < images:
            limit = int(self.first[start]) + BLOCK
            stop = int(np.searchsorted(self.first, limit, side="right")) - 1
            stop = min(max(stop, start + 1), images, start + BLOCK)
            yield slice(start, stop), slice(int(self.first[start]), int(self.first[stop]))
            start = stop

    def release(self) -> None:
        """Let go of the memory of all files that were looked at; it is read again when needed."""
        for key in ARRAYS:
            if mapped := getattr(getattr(self, key), "_mmap", None):
                mapped.madvise(mmap.MADV_DONTNEED)

    def counts(self, images: slice) -> np.ndarray:
        """Return how many annotations images ``start`` to ``stop`` have."""
        return np.diff(self.first[images.start : images.stop + 1].astype(np.int64))

    def sizes(self, images: slice) -> np.ndarray:
        """Return the images' width and height for each of their annotations, (N, 2)."""
        sizes = np.stack([self.width[images], self.height[images]], 1)
        return np.repeat(sizes, self.counts(images), axis=0)


ARRAYS = [f.name for f in fields(Columns) if f.type == "np.ndarray"]
SUMMARY = "summary.json"


def open_columns(folder: Path) -> Columns:
    """Return arrays that lie in files; only what is looked at is read.

    Raises:
        OSError, ValueError, LookupError, TypeError: a file is missing or damaged.
    """
    content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    arrays = {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in ARRAYS}
    columns = Columns(
        **arrays,
        categories=dict(content["categories"]),
        summary=_summary(**content["summary"]),
        folder=folder,
    )
    images, boxes = len(columns.image_id), int(columns.first[-1])
    lengths = {len(columns.name_end), len(columns.first) - 1, len(columns.has_objects)}
    if lengths != {images} or {len(columns.category), len(columns.odd_area)} != {boxes}:
        raise ValueError("the files do not belong together")
    return columns


def _summary(left_out: list[list], **others: object) -> Summary:
    return Summary(**others, left_out=[LeftOut(*entry) for entry in left_out])


def summarise(columns: Columns, left_out: list[LeftOut]) -> Summary:
    """Count by the rules of :mod:`detrex.data.coco_rules`; fills ``columns.has_objects``."""
    faults: dict[str, list[int]] = {fault: [] for fault in BoxFault}
    trained, crowds = (np.zeros(len(columns.categories), np.int64) for _ in range(2))
    for images, rows in columns.blocks():
        fault, _ = clip_boxes(columns.boxes(rows.start, rows.stop), columns.sizes(images))
        for k, name in enumerate(BoxFault, start=1):
            faults[name] += columns.id[rows][fault == k].tolist()
        is_crowd, category = columns.iscrowd[rows] == 1, columns.category[rows]
        usable = fault == 0
        trained += np.bincount(category[usable & ~is_crowd], minlength=len(trained))
        crowds += np.bincount(category[usable & is_crowd], minlength=len(crowds))
        ends = np.append(0, np.cumsum(columns.counts(images)))
        until = np.append(0, np.cumsum(usable & ~is_crowd))[ends]
        columns.has_objects[images] = np.diff(until) > 0
        columns.release()
    dropped = {name: (len(ids), sorted(ids)[:6]) for name, ids in faults.items() if ids}
    return Summary(
        are_fractions(finite_boxes(columns)),
        len(look_like_corners(finite_boxes(columns))),
        dropped,
        trained.tolist(),
        crowds.tolist(),
        left_out,
    )


def finite_boxes(columns: Columns) -> Iterator[Boxes]:
    """Yield the boxes with finite numbers, block by block."""
    for images, rows in columns.blocks():
        boxes, ids = columns.boxes(rows.start, rows.stop), columns.id[rows]
        finite = np.isfinite(boxes).all(1)
        yield Boxes(ids[finite], boxes[finite], columns.sizes(images)[finite])
        columns.release()


def class_names(columns: Columns) -> list[str]:
    """Return the names of the classes; one that occurs twice gets its id."""
    categories = [{"id": i, "name": name} for i, name in columns.categories.items()]
    return list(distinct_names(categories).values())
