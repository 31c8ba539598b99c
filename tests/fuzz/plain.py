"""What a data set is, read as plainly as possible: independent of ``detrex.data``."""

from __future__ import annotations

import codecs
import json
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SMALLEST, LARGEST_ID = 1e-3, 2**53
FORMATS = "JPEG PNG BMP GIF WEBP TIFF PPM".split()
LARGEST_FILE = 2**29  # bytes


class Refused(Exception):
    """The data set is not to be used."""


@dataclass
class Picture:
    """An entry of the JSON: ``pixels`` (H, W, 3) uint8, None if the file is not usable."""

    id: int
    path: Path
    size: tuple[int, int]  # width, height
    pixels: np.ndarray | None = None
    boxes: list[list[float]] = field(default_factory=list)  # x0, y0, x1, y1, not of crowds
    classes: list[int] = field(default_factory=list)
    scored: list[dict] = field(default_factory=list)  # COCO annotations that count in evaluation


@dataclass
class Data:
    pictures: list[Picture]  # by id
    categories: list[int]  # their ids; the i-th one is class i
    dropped: int  # boxes that cannot be used


def need(condition: object) -> None:
    if not condition:
        raise Refused


def number(value: object, *kinds: type) -> bool:
    return type(value) in kinds


def whole(value: object) -> object:
    """Ids and sizes may be written as 7, 7.0 or "7"."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    whole_float = isinstance(value, float) and finite(value) and value == int(value)
    return int(value) if whole_float else value


def identity(value: object) -> bool:
    return number(value, int) and 0 <= value <= LARGEST_ID


def finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # NaN is not


def read(json_file: Path, root: Path) -> Data:
    """Raises Refused."""
    content = parse(json_file)
    need(isinstance(content, dict))
    content.setdefault("annotations", [])
    for section in ("images", "annotations", "categories"):
        entries = content.get(section)
        need(isinstance(entries, list) and all(isinstance(e, dict) for e in entries))
        for entry in entries:
            numbers = ("id", "image_id", "category_id", "width", "height")
            entry.update({key: whole(entry[key]) for key in numbers if key in entry})
        need(all(identity(e.get("id")) for e in entries))
        need(len({e["id"] for e in entries}) == len(entries))
    need(content["images"] and content["categories"])
    need(all(isinstance(c.get("name"), str) for c in content["categories"]))
    labels = {c: i for i, c in enumerate(sorted(c["id"] for c in content["categories"]))}
    pictures = {image["id"]: picture(image, root) for image in content["images"]}
    by_id = sorted(content["annotations"], key=lambda a: a["id"])
    dropped = sum(not place(a, pictures, labels) for a in by_id)
    boxes = [a["bbox"] for a in by_id if min(a["bbox"][2:]) > 0]
    need(not boxes or any(max(x + w, y + h) > 1.01 for x, y, w, h in boxes))
    return Data([pictures[i] for i in sorted(pictures)], list(labels), dropped)


def parse(json_file: Path) -> object:
    try:
        content = json_file.read_bytes()
        utf_16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return json.loads(content.decode("utf-16" if utf_16 else "utf-8-sig"))
    except (ValueError, RecursionError):
        raise Refused from None


def picture(image: dict, root: Path) -> Picture:
    name = image.get("file_name")
    need(isinstance(name, str) and name and "\0" not in name)
    sizes = [image.get("width"), image.get("height")]
    need(all(number(s, int) and s > 0 for s in sizes))
    path = root / name
    if not path.is_file():  # written on Windows, or from beside the images
        path = Path(os.path.normpath(root / name.replace("\\", "/")))
        need(path.is_file() and root in path.parents)
    else:
        need(".." not in Path(name).parts and root in path.parents)
    found = Picture(image["id"], path, tuple(sizes))
    found.pixels = pixels(path, found.size)
    return found


def pixels(path: Path, size: tuple[int, int]) -> np.ndarray | None:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as opened:
            warnings.simplefilter("ignore")
            image = upright(opened)
            if image.mode in ("I", "F"):
                return None
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            image = image.convert("RGB")
    except Exception:  # PIL raises anything
        return None
    return np.asarray(image) if image.size == size else None


def upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF data that is not: the image is as it is
        return image


def around(polygons: object) -> list[float]:
    """The box around the polygons that the mutations write; what else there is, is none."""
    need(isinstance(polygons, list) and all(isinstance(p, list) and len(p) > 5 for p in polygons))
    x, y = (sorted(v for p in polygons for v in p[i::2]) for i in (0, 1))
    return [x[0], y[0], x[-1] - x[0], y[-1] - y[0]]


def place(annotation: dict, pictures: dict[int, Picture], labels: dict[int, int]) -> bool:
    """Whether the annotation's box can be used; if so, it is added to its picture."""
    if not annotation.get("bbox") and annotation.get("segmentation"):
        annotation["bbox"] = around(annotation["segmentation"])
    box, owner, label = (annotation.get(key) for key in ("bbox", "image_id", "category_id"))
    need(number(owner, int) and number(label, int) and owner in pictures and label in labels)
    need(isinstance(box, list) and len(box) == 4 and all(number(v, int, float) for v in box))
    crowd = annotation.get("iscrowd", 0)
    need(isinstance(crowd, int | float) and crowd in (0, 1))
    size = annotation.get("area", 0)
    need(number(size, int, float) and finite(size))
    if not all(map(finite, box)):
        return False
    x, y, w, h = box
    target = pictures[owner]
    keys = {"image_id": owner, "category_id": label, "iscrowd": int(crowd)}
    target.scored.append({"bbox": box, "area": annotation.get("area", w * h), **keys})
    x0, x1 = max(0, x), min(target.size[0], x + w)
    y0, y1 = max(0, y), min(target.size[1], y + h)
    if x1 - x0 < SMALLEST or y1 - y0 < SMALLEST:
        return False
    if not crowd:
        target.boxes.append([x0, y0, x1, y1])
        target.classes.append(labels[label])
    return True
