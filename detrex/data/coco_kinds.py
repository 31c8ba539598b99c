"""The entries of a COCO JSON, as msgspec decodes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

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


def box_text(box: Iterable[float]) -> str:
    """Return a box as a JSON has it, for a message: whole numbers without a point."""
    return f"[{', '.join(f'{value:.10g}' for value in box)}]"


class LeftOut(NamedTuple):
    """An annotation that the columns cannot have.

    ``fault`` is "NO_NUMBERS", "NO_IMAGE" or "NO_CLASS", also the name of an Oddity; ``what`` is
    what is wrong with a value, or else the box.
    """

    id: int
    image_id: int
    category_id: int
    fault: str
    what: str

    def error(self) -> str:
        """Return what is wrong, for a message."""
        unknown = {
            "NO_IMAGE": f" has unknown image id {self.image_id}",
            "NO_CLASS": f" has unknown category id {self.category_id}",
        }
        return f"annotation {self.id}{unknown.get(self.fault) or f': {self.what}'}"


KINDS = {"images": Image, "annotations": Annotation, "categories": Category}


def as_entries(
    section: str, entries: Iterable[dict], left_out: list[LeftOut]
) -> Iterator[Image | Annotation | Category]:
    """Yield the entries of a list that has been normalised and checked.

    Annotations with a value that is not of its kind are added to ``left_out`` instead.
    """
    for entry in entries:
        if section == "annotations":
            keys = [entry[key] for key in ("id", "image_id", "category_id")]
            if fault := annotation_fault(entry):
                left_out.append(LeftOut(*keys, "NO_NUMBERS", fault))
                continue
            mask = entry.get("segmentation")
            mask = msgspec.Raw(json.dumps(mask).encode()) if mask else NO_MASK
            crowd, box = int(entry.get("iscrowd", 0)), tuple(map(float, entry["bbox"]))
            yield Annotation(*keys, box, crowd, entry.get("area"), mask)
        else:
            kind = KINDS[section]
            yield kind(*(entry[key] for key in kind.__struct_fields__))
