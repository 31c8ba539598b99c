"""Data sets as they come: COCO, YOLO, PASCAL VOC, Open Images, Objects365.

Read here and not by supervision or datumaro: a checker must name every bad entry instead of
stopping at the first one or dropping it, and image sets and splits belong to the layouts.
"""

from __future__ import annotations

from pathlib import Path

from detrex.utils.errors import InputError

from .coco import PLACES, read_coco_layout
from .objects365 import ANNOTATIONS, read_objects365
from .open_images import BOXES, read_open_images
from .split import Split, hold_out
from .voc import read_voc
from .yolo import read_yolo

__all__ = ["LAYOUTS", "Split", "hold_out", "read_layout"]

# name -> (files that tell it, reader); the first that fits
LAYOUTS = {
    "Objects365": ((ANNOTATIONS, f"annotations/{ANNOTATIONS}"), read_objects365),
    "Open Images": ((BOXES, f"*/{BOXES}"), read_open_images),
    "YOLO": (("*.yaml", "*.yml"), read_yolo),
    "PASCAL VOC": (
        ("Annotations/*.xml", "*/Annotations/*.xml", "*.xml", "*/*.xml"),
        read_voc,
    ),
    "COCO": (PLACES, read_coco_layout),
}


def read_layout(path: Path, images: Path | None = None) -> tuple[str, dict[str, Split]]:
    """The layout's name and the splits, "train" and "val", of a folder, a COCO JSON or YOLO's YAML.

    Data without a validation split is validated on its test split or, without one, on a tenth of
    the training images that is held out. ``images``: where those of a COCO JSON are, if not near.

    Raises:
        InputError: nothing that is known, or files that contradict each other.
    """
    name, splits = _read(path, images)
    if "train" not in splits:
        raise InputError(f"{path}: no training split; found {', '.join(splits) or 'none'}")
    if "val" not in splits and "test" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"])
    return name, {"train": splits["train"], "val": splits.get("val") or splits["test"]}


def _read(path: Path, images: Path | None) -> tuple[str, dict[str, Split]]:
    if images is not None or path.suffix == ".json":
        return "COCO", read_coco_layout(path, images)
    if path.suffix in (".yaml", ".yml"):
        return "YOLO", read_yolo(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if name := _layout(path):
        return name, LAYOUTS[name][1](path)
    inside = ((p, _layout(p)) for p in sorted(path.iterdir()) if p.is_dir())
    hint = next((f"; is it {p}, {name}?" for p, name in inside if name), "")
    raise InputError(
        f"{path}: none of {', '.join(LAYOUTS)}: no JSON of annotations, data.yaml, XML or CSV files"
        + hint
    )


def _layout(path: Path) -> str | None:
    """Name of the first layout that a folder's files tell."""
    for name, (marks, _) in LAYOUTS.items():
        if any(next(path.glob(mark), None) for mark in marks):
            return name
    return None
