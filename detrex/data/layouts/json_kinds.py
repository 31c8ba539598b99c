"""What a JSON file is, by its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from detrex.utils.coco import read_json
from detrex.utils.errors import InputError

from .text import load_json

COCO, LABELME = "COCO", "LabelMe"
_OTHERS = "annotations", "categories"  # lists of COCO's beside the images


class JsonKind(NamedTuple):
    """A JSON file's format; ``names``: what it calls its images; ``reason``: why it has none;
    ``damaged``: cut off, or COCO's but for a list; ``boxes``: how many of COCO's there are."""

    name: str | None
    names: list[str]
    reason: str = ""
    damaged: bool = False
    boxes: int = 0


def json_kind(path: Path) -> JsonKind:
    """Read a JSON file for its format."""
    try:
        content = load_json(path)
    except InputError as error:
        return JsonKind(None, [], _reason(path) or str(error), damaged=True)
    name = next((name for name, tells in _KINDS.items() if tells(content)), None)
    if name == COCO:
        images = [image for image in content["images"] if isinstance(image, dict)]
        names = [image.get("file_name") for image in images]
        names = [name for name in names if isinstance(name, str)]
        return JsonKind(name, names, boxes=len(content.get("annotations", ())))
    if name is not None:
        return JsonKind(name, [], f"{path}: {name}")
    if reason := _reason(path):
        damaged = _has(content, images=list) and not content.keys().isdisjoint(_OTHERS)
        return JsonKind(None, [], reason, damaged)
    return JsonKind(None, [], f"{path}: not a COCO file")


def _reason(path: Path) -> str:
    """Why a JSON file is not COCO's; empty if it is."""
    try:
        read_json(path)
    except InputError as error:
        return str(error)
    return ""


def _first(content: object, key: str | None = None) -> dict:
    """The first entry of a list, or of the list or dict under a key; empty if there is none."""
    if key is not None:
        content = content.get(key) if isinstance(content, dict) else None
    values: Iterator = iter(content.values() if isinstance(content, dict) else ())
    if isinstance(content, list):
        values = iter(content)
    first = next(values, None)
    return first if isinstance(first, dict) else {}


def _has(content: object, **kinds: type | tuple[type, ...]) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(k), t) for k, t in kinds.items()
    )


def _createml(images: list) -> bool:
    """Whether an image has a box as CreateML writes it; some have none."""
    return any("coordinates" in _first(image, "annotations") for image in images)


# Formats by name. The first that fits.
_KINDS: dict[str, Callable[[object], bool]] = {
    "COCO Panoptic": lambda c: "segments_info" in _first(c, "annotations"),
    COCO: lambda c: (
        _has(c, images=list, categories=list) and isinstance(c.get("annotations", []), list)
    ),
    LABELME: lambda c: _has(c, shapes=list),
    "CreateML": lambda c: isinstance(c, list) and _createml(c),
    "VoTT": lambda c: _has(c, asset=dict, regions=list) or _has(c, assets=dict),
    "VGG Image Annotator": lambda c: (
        _has(c, _via_img_metadata=dict)
        or _has(c, project=dict, file=dict, metadata=dict)
        or "regions" in _first(c)
    ),
    "Label Studio": lambda c: (
        "result" in _first(_first(c), "annotations") or "annotation_id" in _first(c)
    ),
    "Supervisely": lambda c: _has(c, size=dict, objects=list),
    "FiftyOne": lambda c: _has(c, samples=list),
    "Datumaro": lambda c: _has(c, categories=dict, items=list),
    "Cityscapes": lambda c: _has(c, imgHeight=int, objects=list),
}
