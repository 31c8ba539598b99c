"""One split of a data set as the content of a COCO JSON, with the problems of its files."""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO, TypeVar

from detrex.data.class_names import indices_of
from detrex.data.coco import distinct_names, read_entries
from detrex.data.coco_index import read_all
from detrex.data.coco_stream import is_streamed, read_pieces
from detrex.utils.files import atomic_write
from detrex.utils.images import image_fault, image_size

HELD_OUT = 10  # one image in ten becomes the validation split of data that has none
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A COCO JSON, or some of its images and boxes.

    Attributes:
        json_file: the JSON.
        names: id -> file name to give, of the images; None: all, as they are.
        classes: ids of the categories; None: all.
    """

    json_file: Path
    names: Mapping[int, str] | None = None
    classes: frozenset[int] | None = None

    def lists(self) -> Iterator[tuple[str, list[dict]]]:
        """Yield (name of a list, some of its entries), of a large JSON piece by piece.

        Raises:
            InputError: the JSON is damaged.
        """
        if is_streamed(self.json_file):
            pieces = read_pieces(self.json_file)
        else:
            lists = read_entries(self.json_file)._asdict().items()
            pieces = ((section, list(entries.values())) for section, entries in lists)
        for section, entries in pieces:
            yield section, [*self._chosen(section, entries)]

    def _chosen(self, section: str, entries: list[dict]) -> Iterator[dict]:
        image_id = {"images": "id", "annotations": "image_id"}.get(section)
        class_id = {"categories": "id", "annotations": "category_id"}.get(section)
        for entry in entries:
            if image_id and self.names is not None:
                if entry[image_id] not in self.names:
                    continue
                if section == "images":
                    entry = {**entry, "file_name": self.names[entry["id"]]}
            if not class_id or self.classes is None or entry[class_id] in self.classes:
                yield entry


class Split:
    """Images of a folder with their boxes.

    Args:
        images: folder that file names are relative to.
        classes: names of the categories 1, 2, ...; not needed with ``json_file``.
        json_file: COCO JSON that holds the split already.
        origin: the files that say which images these are: "from test.txt".
    """

    def __init__(
        self,
        images: Path,
        classes: Sequence[str] = (),
        json_file: Path | None = None,
        origin: str = "",
    ) -> None:
        self.images, self.origin = images, origin
        self.part = json_file and Part(json_file)  # else the lists below
        self.categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        self.image_entries: list[dict] = []
        self.annotations: list[dict] = []
        self.problems: dict[str, list[str]] = defaultdict(list)  # kind -> where

    @property
    def json_file(self) -> Path | None:
        """The COCO JSON that holds the split and nothing else, if there is one."""
        if self.part is None or self.part != Part(self.part.json_file):
            return None
        return self.part.json_file

    def add_image(self, path: Path, stated: tuple[int, int] | None = None) -> dict | None:
        """Add an image with the upright size of its file, and return its entry.

        Returns None, and notes a problem, for an image that cannot be used.

        Args:
            path: the image file.
            stated: (width, height) in the annotations, to compare.
        """
        name = os.path.relpath(path, self.images)
        if name != os.fsencode(name).decode(errors="ignore"):
            self.problems["images whose names are not UTF-8, left out: rename them"].append(name)
            return None
        size = image_size(path)
        if size is None:
            kind, reason = "are missing", ""
            if path.is_file():
                kind, reason = "do not open", f": {image_fault(path)}"
            self.problems[f"images that {kind}, left out"].append(name + reason)
            return None
        if stated not in (None, size):
            where = f"{name}: {stated[0]}x{stated[1]}, the file {size[0]}x{size[1]}"
            self.problems["sizes that are not the image's, corrected"].append(where)
        number = len(self.image_entries) + 1
        entry = {"id": number, "file_name": name, "width": size[0], "height": size[1]}
        self.image_entries.append(entry)
        return entry

    def note_missing_image(self, where: str, taken: bool) -> None:
        """Note an annotation file without an image; ``taken``: another file has its image."""
        kind = "files of an image that has another one" if taken else "images that are missing"
        self.problems[f"{kind}, left out"].append(where)

    def add_objects(
        self,
        image: dict,
        objects: Iterable[tuple[str, T]],
        read: Callable[[T], tuple[Sequence[float], int]],
        kind: str,
    ) -> None:
        """Add the objects of an image; those that cannot be read are problems of this kind.

        Args:
            image: entry of the image.
            objects: (file and line, object as written there).
            read: object -> (corners x0, y0, x1, y1 in pixels, category id), or a ValueError.
            kind: of problem.
        """
        for where, item in objects:
            try:
                corners, category_id = read(item)
            except ValueError as error:
                self.problems[kind].append(f"{where}: {error}")
            else:
                self.add_box(image, category_id, corners)

    def add_box(
        self, image: dict, category_id: int, corners: Sequence[float], crowd: bool = False
    ) -> None:
        """Add a box: x0, y0, x1, y1 in pixels."""
        x0, y0, x1, y1 = (round(value, 3) for value in corners)
        width, height = round(x1 - x0, 3), round(y1 - y0, 3)
        entry = dict(id=len(self.annotations) + 1, image_id=image["id"], category_id=category_id)
        entry |= dict(bbox=[x0, y0, width, height], area=width * height, iscrowd=int(crowd))
        self.annotations.append(entry)

    def category_id(self, name: str) -> int:
        """Return the id of a class. Raises ValueError for a name that no class has."""
        for category in self.categories:
            if category["name"] == name:
                return category["id"]
        raise ValueError(f"no class {name!r}" if name else "no class")

    def take(self, json_file: Path, file_name: Callable[[str], str | None]) -> None:
        """Take over a COCO JSON.

        Args:
            json_file: the JSON.
            file_name: of an image, by the name that the JSON has; None for one that is missing,
                which is left out.

        Raises:
            InputError: the JSON cannot be read.
        """
        names = {}
        for image_id, written in image_names(json_file).items():
            if (name := file_name(written)) is None:
                self.note_missing_image(written, taken=False)
            else:
                names[image_id] = name
        self.part = Part(json_file, names)

    def subset(self, names: Mapping[int, str], origin: str) -> Split:
        """Return a split of the images with these ids and file names."""
        split = Split(self.images, origin=origin)
        if self.part is not None:
            split.part = replace(self.part, names=names)
            return split
        split.categories = self.categories
        split.image_entries = [image for image in self.image_entries if image["id"] in names]
        split.annotations = [a for a in self.annotations if a["image_id"] in names]
        return split

    def names(self) -> dict[int, str]:
        """Return image id -> file name.

        Raises:
            InputError: the split's JSON cannot be read.
        """
        if self.part is None:
            return {image["id"]: str(image["file_name"]) for image in self.image_entries}
        return image_names(self.part.json_file) if self.part.names is None else self.part.names

    def lacks(self) -> str | None:
        """Return what the split has none of, without which it is of no use; None: it has all."""
        if self.part is not None:
            return "images" if self.part.names == {} else None
        if not self.image_entries:
            return "images"
        return None if self.categories else "objects, and no classes by that"

    def restrict(self, names: Sequence[str], option: str) -> None:
        """Keep the boxes of some classes alone, by name; their order and numbers stay.

        Args:
            names: of the classes.
            option: that gives them, for messages.

        Raises:
            InputError: no class is called so, or the split's JSON cannot be read.
        """
        categories = self.categories
        if self.part is not None:
            of_json = read_all(self.part.json_file).categories
            categories = [{"id": key, "name": name} for key, name in of_json.items()]
        classes = distinct_names(categories)
        ids = list(classes)
        chosen = frozenset(ids[i] for i in indices_of(names, list(classes.values()), option))
        if self.part is not None:
            self.part = replace(self.part, classes=chosen)
        self.categories = [c for c in self.categories if c["id"] in chosen]
        self.annotations = [a for a in self.annotations if a["category_id"] in chosen]

    def content(self) -> dict[str, list[dict]]:
        """Return the content of the split's COCO JSON. Raises InputError for a damaged JSON."""
        content: dict[str, list[dict]] = defaultdict(list)
        for section, entries in self._lists():
            content[section] += entries
        return content

    def _lists(self) -> Iterable[tuple[str, list[dict]]]:
        if self.part is not None:
            return self.part.lists()
        lists = {"images": self.image_entries, "annotations": self.annotations}
        return {**lists, "categories": self.categories}.items()

    def saved(self, path: Path) -> Path:
        """Return the split's COCO JSON, which is written to ``path`` if there is none yet."""
        if self.json_file is None:
            with atomic_write(path) as stream:
                _write_lists(self._lists(), stream)
            self.part = Part(path)
        return self.json_file


def image_names(json_file: Path) -> dict[int, str]:
    """Return image id -> file name of a COCO JSON. Raises InputError for a damaged JSON."""
    columns = read_all(json_file)
    return dict(zip(columns.image_id.tolist(), columns.names(), strict=True))


def _write_lists(lists: Iterable[tuple[str, list[dict]]], stream: TextIO) -> None:
    """Write a JSON of lists that come in pieces, those of one list after each other."""
    written: list[str] = []
    for section, entries in lists:
        if section not in written[-1:]:
            stream.write(("], " if written else "{") + f'"{section}": [')
            written.append(section)
            separator = ""
        for entry in entries:
            stream.write(separator + json.dumps(entry))
            separator = ", "
    stream.write("]}")


def in_pixels(image: dict, fractions: Sequence[float]) -> list[float]:
    """Return x0, y0, x1, y1 in pixels of an image from fractions of its size."""
    sides = (image["width"], image["height"]) * 2
    return [value * side for value, side in zip(fractions, sides, strict=True)]


def hold_out(split: Split) -> list[Split]:
    """Divide a split into [train, val], the same way every time, without images that are missing.

    A split of one image, or none, is not divided: [train].

    Raises:
        InputError: the split's JSON cannot be read.
    """
    if split.json_file is not None:
        split.take(split.json_file, lambda name: name if (split.images / name).is_file() else None)
    names = split.names()
    order = sorted(names, key=lambda key: (zlib.crc32(names[key].encode()), names[key]))
    count = -(-len(order) // HELD_OUT) if len(order) > 1 else 0
    held_out, rest = ({key: names[key] for key in keys} for keys in (order[:count], order[count:]))
    if not held_out:
        splits = [split.subset(rest, split.origin)]
    else:
        train = split.subset(rest, f"{split.origin}, without what is held out")
        splits = [train, split.subset(held_out, "a tenth of train, held out")]
    splits[0].problems = split.problems
    return splits
