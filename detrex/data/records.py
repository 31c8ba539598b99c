"""Records of data sets that are made when they are looked at, from columns.

N images of the records, K classes.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode

from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_json_object

from .coco_columns import Columns
from .coco_rules import clip_boxes, image_file


class _Row(NamedTuple):
    """An image and its usable boxes."""

    image_id: int
    file_name: str
    height: int
    width: int
    boxes: np.ndarray  # (M, 6) class index, iscrowd, x0, y0, x1, y1

    def record(self) -> dict:
        """Return detectron2's dataset dict."""
        return {
            "file_name": self.file_name,
            "image_id": self.image_id,
            "height": self.height,
            "width": self.width,
            "annotations": [
                {
                    "bbox": corners,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": int(category),
                    "iscrowd": int(crowd),
                }
                for category, crowd, *corners in self.boxes.tolist()
            ],
        }


class Records(Sequence):
    """detectron2 dataset dicts, by image id. Boxes that cannot be used are left out.

    Args:
        columns: the data.
        json_file: of the data, for messages.
        image_root: folder of the images.
        images: (I,) bool, which images; None: all.
        classes: (K,) class index to give instead of each of the data's own; None: that.
    """

    def __init__(
        self,
        columns: Columns,
        json_file: str,
        image_root: str,
        images: np.ndarray | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        self.columns, self.json_file, self.image_root = columns, json_file, image_root
        self.chosen, self.classes = images, classes
        # 4 bytes an image in each process; as Python integers they would be 36
        self.images = None if images is None else np.flatnonzero(images).astype(np.int32)

    def __len__(self) -> int:
        return len(self.columns.image_id if self.images is None else self.images)

    def __getitem__(self, index: int) -> dict:
        number = range(len(self))[index]
        number = number if self.images is None else int(self.images[number])
        return next(self._rows(slice(number, number + 1))).record()

    def __iter__(self) -> Iterator[dict]:
        return (row.record() for row in self._all_rows())

    def with_objects(self) -> Records:
        """Return the records with at least one box that is trained on."""
        images = self.columns.has_objects
        images = images if self.chosen is None else images & self.chosen
        return Records(self.columns, self.json_file, self.image_root, images, self.classes)

    def wide(self) -> np.ndarray:
        """Return (N,) whether images are wider than high."""
        wide = self.columns.width > self.columns.height
        return wide if self.images is None else wide[self.images]

    def fingerprint(self) -> dict:
        """Return :func:`detrex.data.fingerprint.fingerprint` of the records; that of an index is
        computed once."""
        kind = "all" if self.images is None else "objects"
        folder = self.columns.folder
        path = folder and folder / f"fingerprint_{kind}.json"
        if path and path.exists():
            return read_json_object(path, {"images": int, "boxes": int, "hash": str})
        digest, boxes = hashlib.blake2b(digest_size=8), 0
        own_classes = Records(self.columns, self.json_file, self.image_root, self.chosen)
        for row in own_classes._all_rows():
            digest.update(record_bytes(row.image_id, row.file_name, row.height, row.width))
            digest.update(row.boxes.tobytes())
            boxes += len(row.boxes)
        result = {"images": len(self), "boxes": boxes, "hash": digest.hexdigest()}
        if path:
            with atomic_write(path) as stream:
                json.dump(result, stream)
        return result

    def image_classes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, for some images at a time, (index of the record, class), both (M,): a pair for
        every class of an image."""
        images, count = len(self.columns.image_id), len(self.columns.categories)
        chosen = np.ones(images, bool) if self.chosen is None else self.chosen
        index = np.cumsum(chosen) - 1
        for block, rows in self.columns.blocks():
            faults, _ = clip_boxes(
                self.columns.boxes(rows.start, rows.stop), self.columns.sizes(block)
            )
            owner = np.repeat(np.arange(block.start, block.stop), self.columns.counts(block))
            counted = (faults == 0) & chosen[owner]
            category = self.columns.category[rows][counted]
            pairs = np.unique(owner[counted] * count + category)
            yield index[pairs // count], self._joint(pairs % count)

    def _joint(self, classes: np.ndarray) -> np.ndarray:
        return classes if self.classes is None else self.classes[classes]

    def _all_rows(self) -> Iterator[_Row]:
        for images, _ in self.columns.blocks():
            chosen = None if self.chosen is None else self.chosen[images].tolist()
            rows = self._rows(images)
            yield from rows if chosen is None else itertools.compress(rows, chosen)

    def _rows(self, images: slice) -> Iterator[_Row]:
        c = self.columns
        start, stop = c.first[[images.start, images.stop]].tolist()
        faults, corners = clip_boxes(c.boxes(start, stop), c.sizes(images))
        usable = faults == 0
        labels = np.stack([self._joint(c.category[start:stop]), c.iscrowd[start:stop]], 1)
        table = np.concatenate([labels, corners], axis=1)[usable]
        ends = np.append(0, np.cumsum(usable))[np.cumsum(c.counts(images))].tolist()
        numbers = (values[images].tolist() for values in (c.image_id, c.height, c.width))
        names = c.names(images.start, images.stop)
        for (id_, height, width), name, low, high in zip(
            zip(*numbers, strict=True), names, [0, *ends], ends, strict=False
        ):
            path = image_file(self.json_file, self.image_root, name)
            yield _Row(id_, path, height, width, table[low:high])


class JoinedRecords(Sequence):
    """Several data sets as one.

    Args:
        data_sets: those, with one list of classes.
        weights: how often an image of each comes in an epoch, on average; positive.
    """

    def __init__(self, data_sets: Sequence[Records], weights: Sequence[float]) -> None:
        self.data_sets, self.weights = list(data_sets), list(weights)
        self.ends = list(itertools.accumulate(map(len, self.data_sets)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        k = bisect.bisect_right(self.ends, index)
        return self.data_sets[k][index - self.ends[k] + len(self.data_sets[k])]

    def __iter__(self) -> Iterator[dict]:
        return itertools.chain.from_iterable(self.data_sets)

    def with_objects(self) -> JoinedRecords:
        """Return the records with at least one box that is trained on."""
        return JoinedRecords([data.with_objects() for data in self.data_sets], self.weights)

    def wide(self) -> np.ndarray:
        """Return (N,) whether images are wider than high."""
        return np.concatenate([data.wide() for data in self.data_sets])

    def fingerprint(self) -> dict:
        """Return the numbers of images and boxes and a hash of the data sets and their weights."""
        prints = [data.fingerprint() for data in self.data_sets]
        classes = [None if p.classes is None else p.classes.tolist() for p in self.data_sets]
        text = json.dumps([[p["hash"] for p in prints], classes, self.weights])
        sums = {key: sum(p[key] for p in prints) for key in ("images", "boxes")}
        return {**sums, "hash": hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}

    def image_classes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As :meth:`Records.image_classes`."""
        for start, data in zip([0, *self.ends], self.data_sets, strict=False):
            for index, classes in data.image_classes():
                yield index + start, classes

    def repeats(self) -> np.ndarray | None:
        """Return how often each image comes in an epoch by the weights, (N,); None: once."""
        if set(self.weights) == {1}:
            return None
        return np.repeat(np.array(self.weights, np.float64), list(map(len, self.data_sets)))


def record_bytes(image_id: object, file_name: str, height: float, width: float) -> bytes:
    """Return what the fingerprint covers of a record besides its boxes."""
    name = f"{image_id}\0{file_name.rpartition('/')[2]}\0"
    return name.encode(errors="surrogateescape") + array("d", (height, width)).tobytes()


def repeat_factors(records: Records | JoinedRecords, threshold: float) -> np.ndarray:
    """Return LVIS's repeat factors (N,), as detectron2's ``RepeatFactorTrainingSampler`` does.

    An image comes max(1, sqrt(t / f)) times, where f is the share of images with the rarest of its
    classes (Gupta et al. 2019, appendix B.2).
    """
    images = np.zeros(0, np.int64)
    for _, classes in records.image_classes():
        counts = np.bincount(classes, minlength=len(images))
        counts[: len(images)] += images
        images = counts
    with np.errstate(divide="ignore"):
        by_class = np.maximum(1, np.sqrt(threshold / (images / len(records))))
    factors = np.ones(len(records))
    for index, classes in records.image_classes():
        np.maximum.at(factors, index, by_class[classes])
    return factors.astype(np.float32).astype(np.float64)
