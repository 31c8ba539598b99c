"""The format of a JSON file, by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from detrex.data.coco import MissingList, read_json
from detrex.data.coco_index import read_all
from detrex.data.coco_stream import is_streamed
from detrex.utils.errors import InputError

from .text import load_json

COCO, LABELME = "COCO", "LabelMe"
_OTHERS = "annotations", "categories"  # COCO's lists besides the images


class JsonKind(NamedTuple):
    """A JSON file's format, or None. Of COCO: ``names`` of the images and how many ``boxes``.
    ``reason``: why it is not read as COCO; ``damaged``: cut off, or COCO with a list missing."""

    name: str | None
    names: list[str]
    reason: str = ""
    damaged: bool = False
    boxes: int = 0


def json_kind(path: Path) -> JsonKind:
    """Read a JSON file and return its format; of a large COCO JSON its index is made."""
    if is_streamed(path):
        try:
            columns = read_all(path)
        except MissingList:
            pass
        except InputError as error:
            return JsonKind(None, [], str(error), damaged=True)
        else:
            count = len(columns.id) + len(columns.summary.left_out)
            return JsonKind(COCO, columns.names(), boxes=count)
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
    """Return why a JSON file is not COCO's; "" if it is."""
    try:
        read_json(path)
    except InputError as error:
        return str(error)
    return ""


def _has(content: object, **kinds: type | tuple[type, ...]) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(k), t) for k, t in kinds.items()
    )


def _first(content: object, key: str | None = None) -> dict:
    """Return the first entry of a list or dict, or of the one under a key; {} without one."""
    if key is not None:
        content = content.get(key) if isinstance(content, dict) else None
    values = content.values() if isinstance(content, dict) else content
    first = next(iter(values), None) if isinstance(content, dict | list) else None
    return first if isinstance(first, dict) else {}


def _createml(images: list) -> bool:
    """Whether any image has a box in CreateML's form."""
    return any("coordinates" in _first(image, "annotations") for image in images)


# Format -> whether a content has it; the first match counts.
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
