"""What is odd about a data set: said by name, so that a person can look and mend it."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from detrex.utils.coco import annotation_fault
from detrex.utils.images import image_size

from .coco_format import CocoEntries, clip_box, image_file

Oddities = dict[str, list[str]]  # kind -> where


def find_oddities(entries: CocoEntries, images: Path) -> Oddities:
    """Images and boxes of a COCO JSON that are not what they should be.

    Only headers of images are read. Raises InputError for image names that leave the folder.
    """
    found: Oddities = defaultdict(list)
    for image in entries.images.values():
        name = image["file_name"]
        path, stated = Path(image_file("the JSON", str(images), name)), _size(image)
        if not os.path.isfile(path):
            found["images that are missing"].append(name)
        elif (size := image_size(path)) is None:
            found["images that do not open"].append(name)
        elif size != stated:
            where = f"{name}: {stated[0]}x{stated[1]}, the file {size[0]}x{size[1]}"
            found["sizes that are not the image's"].append(where)
    seen = set()
    for number, annotation in entries.annotations.items():
        kinds = _box_oddities(annotation, entries)
        key = annotation["image_id"], annotation["category_id"], str(annotation["bbox"])
        if key in seen:
            kinds.append("boxes that are there twice, class included")
        seen.add(key)
        name = entries.images.get(annotation["image_id"], {}).get("file_name", "no image")
        for kind in kinds:
            found[kind].append(f"annotation {number} of {name}: {annotation['bbox']}")
    return dict(found)


def _size(image: dict) -> tuple[int, int]:
    return image["width"], image["height"]


def _box_oddities(annotation: dict, entries: CocoEntries) -> list[str]:
    if annotation["image_id"] not in entries.images:
        return ["boxes of images that are not listed"]
    if annotation["category_id"] not in entries.categories:
        return ["boxes of classes that are not listed"]
    if fault := annotation_fault(annotation):
        return [fault.split(":")[0]]
    width, height = _size(entries.images[annotation["image_id"]])
    x, y, w, h = annotation["bbox"]
    fault, _ = clip_box([x, y, w, h], width, height)
    if fault:
        return [f"boxes {fault}, not trained on"]
    if min(x, y, width - x - w, height - y - h) < -1:  # a pixel is rounding
        return ["boxes partly outside the image, cut off"]
    return []


def equal_files(splits: Mapping[str, Iterable[Path]]) -> list[list[tuple[str, Path]]]:
    """Groups of files with the same bytes, each (split, path). Only files of equal length are
    read."""
    by_length: dict[int, set[tuple[str, Path]]] = defaultdict(set)
    for split, paths in splits.items():
        for path in paths:
            if os.path.isfile(path):
                by_length[path.stat().st_size].add((split, path))
    by_content: dict[bytes, list[tuple[str, Path]]] = defaultdict(list)
    for group in by_length.values():
        for split, path in sorted(group) if len(group) > 1 else ():
            with path.open("rb") as stream:
                by_content[hashlib.file_digest(stream, "sha256").digest()].append((split, path))
    return [group for group in by_content.values() if len(group) > 1]
