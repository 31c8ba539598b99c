"""One split of a data set as COCO content, and what was wrong in the files it came from."""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detrex.utils.coco import read_entries
from detrex.utils.files import atomic_write
from detrex.utils.images import image_fault, image_size

HELD_OUT = 10  # one image in ten becomes the validation split of data that has none


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
        """Add an image by its file's size, upright; None, and a problem, if there is no such image.

        ``stated``: (width, height) that the annotations give, to compare.
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
        """Raises ValueError for a class that is none."""
        for category in self.categories:
            if category["name"] == name:
                return category["id"]
        raise ValueError(f"no class {name!r}" if name else "no class")

    def content(self) -> dict:
        """The split as the content of a COCO JSON. Raises InputError for a JSON that is not one."""
        if self.json_file is not None:
            entries = read_entries(str(self.json_file))
            return {key: list(part.values()) for key, part in entries._asdict().items()}
        return {
            "images": self.image_entries,
            "annotations": self.annotations,
            "categories": self.categories,
        }

    def saved(self, path: Path) -> Path:
        """The split's COCO JSON, written to ``path`` if it has none yet."""
        if self.json_file is None:
            with atomic_write(path) as stream:
                json.dump(self.content(), stream)
            self.json_file = path
        return self.json_file


def hold_out(split: Split) -> list[Split]:
    """Divide a split in two, for training and validation, the same way every time; images that are
    missing are in neither. A single image, or none, stays in one split."""
    content = split.content()
    names = {image["id"]: image["file_name"] for image in content["images"]}
    gone = {key for key, name in names.items() if not (split.images / name).is_file()}
    if gone:
        missing = [names.pop(key) for key in sorted(gone)]
        split.problems["images that are missing, left out"] += missing
    order = sorted(names, key=lambda key: (zlib.crc32(str(names[key]).encode()), str(names[key])))
    chosen = set(order[: -(-len(order) // HELD_OUT)]) if len(order) > 1 else set()
    origins = [split.origin]
    if chosen:
        origins = [f"{split.origin}, without what is held out", "a tenth of train, held out"]
    parts = [Split(split.images, origin=origin) for origin in origins]
    for part, inside in zip(parts, (False, True), strict=False):
        part.categories = content["categories"]
        other = gone | (names.keys() - chosen if inside else chosen)
        part.image_entries = [i for i in content["images"] if i["id"] not in other]
        part.annotations = [a for a in content["annotations"] if a["image_id"] not in other]
    parts[0].problems = split.problems
    return parts
