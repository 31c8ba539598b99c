"""One split of a data set as the content of a COCO JSON, with the problems of its files."""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from detrex.data.class_names import indices_of
from detrex.data.coco import CocoEntries, distinct_names, read_entries
from detrex.utils.files import atomic_write
from detrex.utils.images import image_fault, image_size

HELD_OUT = 10  # one image in ten becomes the validation split of data that has none
T = TypeVar("T")


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
        self.images, self.json_file, self.origin = images, json_file, origin
        self.categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        self.image_entries: list[dict] = []
        self.annotations: list[dict] = []
        self.problems: dict[str, list[str]] = defaultdict(list)  # kind -> where

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

    def take(self, entries: CocoEntries, names: Mapping[int, str]) -> None:
        """Take over a COCO JSON: the images in ``names`` (id -> file name) with their boxes; the
        others are missing."""
        self.categories = list(entries.categories.values())
        for key, image in entries.images.items():
            if key in names:
                self.image_entries.append({**image, "file_name": names[key]})
            else:
                self.note_missing_image(image["file_name"], taken=False)
        self.annotations = [a for a in entries.annotations.values() if a["image_id"] in names]

    def subset(self, ids: Collection[int], origin: str) -> Split:
        """Return a split of the images with these ids."""
        split = Split(self.images, origin=origin)
        split.categories = self.categories
        split.image_entries = [image for image in self.image_entries if image["id"] in ids]
        split.annotations = [a for a in self.annotations if a["image_id"] in ids]
        return split

    def restrict(self, names: Sequence[str], option: str) -> None:
        """Keep the boxes of some classes alone, by name; their order and numbers stay.

        Args:
            names: of the classes.
            option: that gives them, for messages.

        Raises:
            InputError: no class is called so, or the split's JSON cannot be read.
        """
        content = self.content()
        classes = distinct_names(content["categories"])
        chosen = {list(classes)[i] for i in indices_of(names, list(classes.values()), option)}
        self.categories = [c for c in content["categories"] if c["id"] in chosen]
        self.annotations = [a for a in content["annotations"] if a["category_id"] in chosen]
        self.image_entries, self.json_file = content["images"], None

    def content(self) -> dict:
        """Return the content of the split's COCO JSON. Raises InputError for a damaged JSON."""
        if self.json_file is not None:
            entries = read_entries(self.json_file)
            return {key: list(section.values()) for key, section in entries._asdict().items()}
        return {
            "images": self.image_entries,
            "annotations": self.annotations,
            "categories": self.categories,
        }

    def saved(self, path: Path) -> Path:
        """Return the split's COCO JSON, which is written to ``path`` if there is none yet."""
        if self.json_file is None:
            with atomic_write(path) as stream:
                json.dump(self.content(), stream)
            self.json_file = path
        return self.json_file


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
        entries = read_entries(split.json_file)
        files = {key: image["file_name"] for key, image in entries.images.items()}
        present = {key: name for key, name in files.items() if (split.images / name).is_file()}
        split.take(entries, present)
    names = {image["id"]: str(image["file_name"]) for image in split.image_entries}
    order = sorted(names, key=lambda key: (zlib.crc32(names[key].encode()), names[key]))
    if len(order) < 2:
        splits = [split.subset(order, split.origin)]
    else:
        count = -(-len(order) // HELD_OUT)
        train = split.subset(set(order[count:]), f"{split.origin}, without what is held out")
        splits = [train, split.subset(set(order[:count]), "a tenth of train, held out")]
    splits[0].problems = split.problems
    return splits
