"""The entries of a COCO JSON, as msgspec decodes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

import msgspec

from detrex.utils.errors import InputError

from .coco_masks import mask_area
from .coco_rules import annotation_fault

NO_MASK = msgspec.Raw(b"null")


class Image(msgspec.Struct, gc=False):
    """An entry of the list "images"."""

    id: int
    file_name: str
    width: int
    height: int


class Annotation(msgspec.Struct, gc=False):
    """An entry of the list "annotations": ``bbox`` x, y, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    area: float | None = None
    segmentation: msgspec.Raw = NO_MASK

    def mask_area(self) -> float | None:
        """Return the area of the segmentation; None without a valid one."""
        return mask_area(json.loads(bytes(self.segmentation)))


class Category(msgspec.Struct, gc=False):
    """An entry of the list "categories"."""

    id: int
    name: str


KINDS = {"images": Image, "annotations": Annotation, "categories": Category}


def as_entries(
    json_file: str | os.PathLike, section: str, entries: Iterable[dict]
) -> Iterator[Image | Annotation | Category]:
    """Yield the entries of a list that has been normalised and checked.

    Raises:
        InputError: a value of an annotation is not of its kind.
    """
    for entry in entries:
        if section == "annotations":
            if fault := annotation_fault(entry):
                raise InputError(f"{json_file}: annotation {entry['id']}: {fault}")
            mask = entry.get("segmentation")
            mask = msgspec.Raw(json.dumps(mask).encode()) if mask else NO_MASK
            crowd, box = int(entry.get("iscrowd", 0)), tuple(map(float, entry["bbox"]))
            keys = (entry[key] for key in ("id", "image_id", "category_id"))
            yield Annotation(*keys, box, crowd, entry.get("area"), mask)
        else:
            kind = KINDS[section]
            yield kind(*(entry[key] for key in kind.__struct_fields__))
