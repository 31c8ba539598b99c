"""LabelMe: a JSON per image, with its outlines.

Format: https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from pathlib import Path

from .files import Files, by_folder
from .json_kinds import LABELME
from .split import Split
from .text import load_json, number


def is_labelme(files: Files) -> bool:
    """Whether a JSON is in LabelMe's format."""
    return any(kind.name == LABELME for kind in files.jsons.values())


def read_labelme(files: Files) -> dict[str, Split]:
    """Read the JSONs; their folders say the splits.

    The box of a shape is the one around it; points and lines have none. Classes are in alphabetical
    order.
    """
    paths = [path for path, kind in files.jsons.items() if kind.name == LABELME]
    contents = {path: load_json(files.use(path)) for path in paths}
    for content in contents.values():
        content.pop("imageData", None)  # the whole image in base64
        content["shapes"] = [s for s in content["shapes"] if isinstance(s, dict)]
    labels = {_label(s) for c in contents.values() for s in c["shapes"]}
    images, rivals = files.pair({path: _names(path, c) for path, c in contents.items()})
    splits = {}
    for name, (group, origin) in by_folder(files, paths, images).items():
        splits[name] = split = Split(files.root, sorted(labels - {""}), origin=origin)
        for path in group:
            if path in images:
                _add(split, files.use(images[path]), contents[path], files.root / path)
            else:
                where = f"{files.root / path}: {contents[path].get('imagePath')}"
                split.note_missing_image(where, taken=path in rivals)
    return splits


def _label(shape: dict) -> str:
    label = shape.get("label")
    return "" if label is None else str(label)


def _names(path: str, content: dict) -> list[str]:
    """Return names that the image may have: the stated one and the JSON's."""
    stated = str(content.get("imagePath") or "").replace("\\", "/")
    name = posixpath.normpath(posixpath.join(posixpath.dirname(path), stated)) if stated else ""
    return [name, posixpath.splitext(path)[0]]


def _add(split: Split, image: Path, content: dict, file: Path) -> None:
    size = content.get("imageWidth"), content.get("imageHeight")
    entry = split.add_image(image, size if all(type(side) is int for side in size) else None)
    if entry is None:
        return
    objects = ((f"{file}: shape {n}", shape) for n, shape in enumerate(content["shapes"], 1))

    def read(shape: dict) -> tuple[Sequence[float], int]:
        box = _box(shape.get("shape_type") or "polygon", shape.get("points"))
        return box, split.category_id(_label(shape))

    split.add_objects(entry, objects, read, "shapes without a label or a box, left out")


def _box(kind: str, points: object) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 around a shape. Raises ValueError."""
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}.get(kind)
    if least is None:
        raise ValueError(f"{kind} has no box")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError("no points")
    if len(points) < least:
        raise ValueError(f"{kind} of {len(points)} points")
    xs, ys = ([number(point[axis]) for point in points] for axis in (0, 1))
    if kind == "circle":  # its centre and a point on it
        radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    return min(xs), min(ys), max(xs), max(ys)
