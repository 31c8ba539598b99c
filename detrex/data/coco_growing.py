"""Building the columns of a COCO JSON while it is read."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from detrex.utils.errors import InputError

from .coco import check_size, double_id
from .coco_columns import BLOCK, BOX, SUMMARY, Columns, summarise
from .coco_kinds import NO_MASK, Annotation, Category, Image, LeftOut, box_text
from .coco_rules import differs

_IDS = ("id", "image_id", "category_id")


class _Column:
    """An array that grows; of many rows its values are in a file."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.pieces, self.file = dtype, [], None

    def add(self, values: Iterable) -> None:
        values = np.asarray(values, self.dtype)
        if self.file is None:
            self.pieces.append(values)
        else:
            values.tofile(self.file)

    def move_to(self, path: Path) -> None:
        """Keep the values in a new file."""
        self.file = path.open("w+b")
        for piece in self.pieces:
            piece.tofile(self.file)
        self.pieces = []

    def values(self) -> np.ndarray:
        """Return all values."""
        if self.file is None:
            return np.concatenate([np.empty(0, self.dtype), *self.pieces])
        self.file.flush()
        return np.fromfile(self.file.name, self.dtype)

    def forget(self) -> None:
        """Remove the values."""
        self.pieces = []
        if self.file is not None:
            self.file.close()
            os.unlink(self.file.name)


class Growing:
    """The entries of a JSON while it is read: add pieces, then :meth:`finish`.

    Attributes:
        json_file: for messages.
        count: annotations so far.
        folder: where the arrays become files; None: they are in memory.
        left_out: annotations that cannot be added.
    """

    def __init__(self, json_file: str) -> None:
        self.json_file, self.count, self.folder = json_file, 0, None
        self.left_out: list[LeftOut] = []
        self.categories: list[Category] = []
        self.images = {k: _Column(np.int64) for k in ("id", "width", "height", "length")}
        self.images["name"] = _Column(np.uint8)
        self.columns = {k: _Column(np.int64) for k in _IDS}
        self.columns |= {k: _Column(np.float64) for k in (*BOX, "area")}
        self.columns |= {k: _Column(np.uint8) for k in ("iscrowd", "odd_area")}

    def add(self, section: str, entries: list) -> None:
        """Add some entries of a list.

        Raises:
            OSError: the disk is full.
        """
        adders = {"images": self._images, "annotations": self._boxes}
        adders.get(section, self.categories.extend)(entries)

    def _images(self, images: list[Image]) -> None:
        names = [image.file_name.encode(errors="surrogatepass") for image in images]
        for key in ("id", "width", "height"):
            self.images[key].add(_whole([getattr(image, key) for image in images]))
        self.images["length"].add([len(name) for name in names])
        self.images["name"].add(np.frombuffer(b"".join(names), np.uint8))

    def _boxes(self, annotations: list[Annotation]) -> None:
        columns = {  # written out: 25 million times
            "id": _whole([a.id for a in annotations]),
            "image_id": _whole([a.image_id for a in annotations]),
            "category_id": _whole([a.category_id for a in annotations]),
            "iscrowd": [a.iscrowd for a in annotations],
        }
        corners = itertools.chain.from_iterable([a.bbox for a in annotations])
        boxes = np.fromiter(corners, np.float64, 4 * len(annotations)).reshape(-1, 4)
        area = np.array([a.area for a in annotations], np.float64)
        odd = differs(area, boxes[:, 2], boxes[:, 3]) & (boxes[:, 2:] > 0).all(1)
        masked = [i for i, a in enumerate(annotations) if a.segmentation is not NO_MASK]
        for i in masked:
            if (boxes[i, 2:] > 0).all() and (mask := annotations[i].mask_area()):
                odd[i] = differs(area[i], *boxes[i, 2:], mask)
        columns |= {"area": area, "odd_area": odd, **dict(zip(BOX, boxes.T, strict=True))}
        for key, values in columns.items():
            self.columns[key].add(values)
        self.count += len(annotations)

    def move_to(self, folder: Path) -> None:
        """Have the arrays in files of a folder from now on."""
        self.folder = folder
        for key, column in self.columns.items():
            column.move_to(folder / f"{key}.part")

    def finish(self) -> Columns:
        """Return the arrays in order.

        Raises:
            InputError: an id occurs twice, or an image has no area.
        """
        categories = _by_id(self.json_file, self.categories)
        arrays = self._ordered_images()
        if not categories or not len(arrays["image_id"]):
            empty = "images" if categories else "categories"
            raise InputError(f"{self.json_file}: the list {empty!r} is empty")
        arrays = {key: self._save(key, values) for key, values in arrays.items()}
        arrays |= self._ordered_boxes(arrays["image_id"], np.array(list(categories)))
        arrays["has_objects"] = np.zeros(len(arrays["image_id"]), bool)
        summary = summarise(Columns(**arrays, categories=categories, summary=None), self.left_out)
        arrays["has_objects"] = self._save("has_objects", arrays["has_objects"])
        if self.folder is not None:
            text = json.dumps({"categories": list(categories.items()), "summary": asdict(summary)})
            (self.folder / SUMMARY).write_text(text, encoding="utf-8")
        return Columns(**arrays, categories=categories, summary=summary)

    def _save(self, key: str, values: np.ndarray) -> np.ndarray:
        values = _smallest(values)
        if self.folder is None:
            return values
        np.save(self.folder / f"{key}.npy", values)
        return np.load(self.folder / f"{key}.npy", mmap_mode="r")

    def _ordered_images(self) -> dict[str, np.ndarray]:
        ids, width, height, lengths, names = (column.values() for column in self.images.values())
        for column in self.images.values():
            column.forget()
        order = _order(self.json_file, "images", ids)
        if not isinstance(order, slice):
            ends = np.cumsum(lengths)
            names = np.concatenate([names[ends[i] - lengths[i] : ends[i]] for i in order])
        ids, width, height, lengths = (v[order] for v in (ids, width, height, lengths))
        for i in np.flatnonzero((width <= 0) | (height <= 0))[:1]:
            check_size(self.json_file, int(ids[i]), int(width[i]), int(height[i]))
        ends = np.cumsum(lengths)
        return {"image_id": ids, "width": width, "height": height, "name": names, "name_end": ends}

    def _ordered_boxes(self, image_ids: np.ndarray, class_ids: np.ndarray) -> dict:
        # Of 25 million boxes a column takes 0.2 GB: one at a time is in memory.
        by_id = _order(self.json_file, "annotations", self.columns["id"].values())
        category = self._positions("category_id", class_ids)
        image = self._positions("image_id", image_ids)
        unknown = self._leave_out_unknown(image, category, by_id)
        counts = np.zeros(1 + len(image_ids), np.int64)
        for rows in _blocks(len(image)):
            counts += np.bincount(image[rows] + 1, minlength=len(counts))
        if isinstance(by_id, slice):
            order = np.argsort(image, kind="stable")
        else:
            order = by_id[np.argsort(image[by_id], kind="stable")]
        order = order[unknown:].astype(np.min_scalar_type(max(len(order) - 1, 0)))
        del image
        arrays = {"first": self._save("first", np.append(0, np.cumsum(counts[1:])))}
        arrays["category"] = self._save("category", _taken(category, order))
        del category, by_id
        for key in self.columns.keys() - {"image_id", "category_id"}:
            arrays[key] = self._save(key, _taken(self.columns[key].values(), order))
            self.columns[key].forget()
        return arrays

    def _positions(self, key: str, known: np.ndarray) -> np.ndarray:
        """Return where the values of a column are among known ones, (A,) integers; -1: nowhere."""
        values = self.columns[key].values()
        positions = np.empty(len(values), np.min_scalar_type(-len(known) - 1))
        for rows in _blocks(len(values)):
            place = np.searchsorted(known, values[rows]).clip(max=len(known) - 1)
            positions[rows] = np.where(known[place] == values[rows], place, -1)
        return positions

    def _leave_out_unknown(
        self, image: np.ndarray, category: np.ndarray, by_id: np.ndarray | slice
    ) -> int:
        """Leave out the annotations at unknown positions; their image becomes -1. Return how
        many."""
        rows = np.flatnonzero(((image < 0) | (category < 0))[by_id])
        rows = rows if isinstance(by_id, slice) else by_id[rows]
        if len(rows):
            keys = zip(*(self.columns[key].values()[rows].tolist() for key in _IDS), strict=True)
            boxes = np.stack([self.columns[key].values()[rows] for key in BOX], 1).tolist()
            faults = np.where(image[rows] < 0, "NO_IMAGE", "NO_CLASS").tolist()
            for ids, fault, box in zip(keys, faults, boxes, strict=True):
                self.left_out.append(LeftOut(*ids, fault, box_text(box)))
            image[rows] = -1
        for key in ("image_id", "category_id"):
            self.columns[key].forget()
        return len(rows)


def _blocks(count: int, overlap: int = 0) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK + overlap, count)) for i in range(0, count, BLOCK))


def _taken(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return values[order], with little more memory than the result's."""
    result = np.empty(len(order), values.dtype)
    for rows in _blocks(len(order)):
        result[rows] = values[order[rows]]
    return result


def _whole(values: list[int]) -> np.ndarray:
    """Return whole numbers with -1 for those that no array holds, which are no ids."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array([v if -(2**63) <= v < 2**63 else -1 for v in values], np.int64)


def _order(json_file: str, section: str, ids: np.ndarray) -> np.ndarray | slice:
    """Return the index that puts ids in ascending order."""
    if all((ids[rows][1:] > ids[rows][:-1]).all() for rows in _blocks(len(ids), overlap=1)):
        return slice(None)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        raise double_id(json_file, section, ids[order][twice[0]])
    return order


def _by_id(json_file: str, categories: list[Category]) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in categories:
        if category.id in names:
            raise double_id(json_file, "categories", category.id)
        names[category.id] = category.name
    return dict(sorted(names.items()))


def _smallest(values: np.ndarray) -> np.ndarray:
    """Return the same values in the smallest type that holds them exactly."""
    if not len(values):
        return values
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        pairs = ((single[r], values[r]) for r in _blocks(len(values)))
        return single if all(np.array_equal(*p, equal_nan=True) for p in pairs) else values
    if values.dtype.kind == "i":
        least = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
        return values.astype(least)
    return values
