"""Readers of data sets in COCO, YOLO, PASCAL VOC, LabelMe, CSV, Open Images, Objects365,
CrowdHuman layout.

Not supervision's or datumaro's: a check must name every bad entry instead of stopping at the first
one or dropping it, and must know which split an image belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from detrex.utils.errors import InputError

from .box_csv import CSV_ENDINGS, is_box_csv, read_box_csv
from .coco import is_coco, read_coco_layout
from .crowdhuman import is_crowdhuman, read_crowdhuman
from .files import Files, split_of
from .labelme import is_labelme, read_labelme
from .objects365 import is_objects365, read_objects365
from .open_images import is_open_images, read_open_images
from .refusal import refusal
from .split import Split, hold_out
from .voc import is_voc, read_voc
from .yolo import is_yolo, read_yolo
from .yolo_config import has_config

__all__ = ["LAYOUTS", "Split", "hold_out", "read_layout"]


class Layout(NamedTuple):
    """How a layout is recognised, and read."""

    fits: Callable[[Files], bool]
    read: Callable[[Files], dict[str, Split]]


# The first that fits is read.
LAYOUTS = {
    "Objects365": Layout(is_objects365, read_objects365),
    "CrowdHuman": Layout(is_crowdhuman, read_crowdhuman),
    "Open Images": Layout(is_open_images, read_open_images),
    "YOLO": Layout(is_yolo, read_yolo),
    "PASCAL VOC": Layout(is_voc, read_voc),
    "COCO": Layout(is_coco, read_coco_layout),
    "LabelMe": Layout(is_labelme, read_labelme),
    "CSV": Layout(is_box_csv, read_box_csv),
}
# ending of a single file -> layout
_ENDINGS = {
    ".json": "COCO",
    **dict.fromkeys(CSV_ENDINGS, "CSV"),
    **dict.fromkeys((".yaml", ".yml", ".data"), "YOLO"),
}


def read_layout(path: Path, images: Path | None = None) -> tuple[str, dict[str, Split]]:
    """Read a data set; return its layout's name and its splits, "train" and "val".

    Data without a validation split is validated on its test split or, without one, on a tenth of
    the training images, which is held out; a single image stays in "train". The problems of
    "train" name the files that were not read.

    Args:
        path: a folder, a COCO JSON, a CSV of boxes, or YOLO's YAML or obj.data.
        images: folder of the images of a JSON or CSV, if they are not near it.

    Raises:
        InputError: no layout that is read, or files that contradict each other.
    """
    if images and not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    files = _files(path)
    name = _name(files, ("COCO", "CSV") if images else LAYOUTS)
    splits = LAYOUTS[name].read(files, *[images] if images else [])
    if splits.keys().isdisjoint(("train", "trainval")):
        there = ", ".join(f"{key} {split.origin}" for key, split in splits.items()) or "none"
        reasons = "; ".join([f"found {there}", *_reasons(files.notes)])
        raise InputError(f"{path}: no training split; {reasons}")
    splits = _train_and_val(splits)
    if not files.single:
        files.note_unused()
    for kind, where in files.notes.items():
        splits["train"].problems[kind] += dict.fromkeys(where)
    for key, split in splits.items():
        if what := split.lacks():
            reasons = _reasons(split.problems) or [split.origin]
            raise InputError(f"{path}: {key} has no {what}; {'; '.join(reasons)}")
    return name, splits


def _files(path: Path) -> Files:
    if path.is_dir():
        return Files(_unpacked(path))
    if not path.is_file():
        what = "not a regular file" if path.exists() else "no such file or folder"
        raise InputError(f"{path}: {what}")
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"{path}: give the folder of the data, or a {', '.join(_ENDINGS)} file")
    return Files(path.parent, path)


def _unpacked(path: Path) -> Path:
    """Return the only folder in a folder, if there is nothing else and it has no split's name."""
    inside = [p for p in path.iterdir() if p.name[0] != "." and p.name != "__MACOSX"]
    if len(inside) == 1 and inside[0].is_dir() and split_of(inside[0].name) is None:
        return _unpacked(inside[0])
    return path


def _name(files: Files, names: Collection[str]) -> str:
    if files.single:
        name = _ENDINGS[files.single.suffix.lower()]
    else:
        name = next((name for name in names if LAYOUTS[name].fits(files)), None)
        name = name or ("YOLO" if has_config(files) else None)  # images and labels are elsewhere
    if name not in names:
        raise refusal(files, names)
    return name


def _train_and_val(splits: dict[str, Split]) -> dict[str, Split]:
    """Return the splits to train and validate on; the others are problems of "train"."""
    if "trainval" in splits and "train" not in splits:
        splits["train"] = splits.pop("trainval")
    test = splits.get("test")
    if "val" in splits:
        result = {"train": splits["train"], "val": splits["val"]}
    elif test and (test.part or test.annotations):
        test.origin += ", as there is no validation split"
        result = {"train": splits["train"], "val": test}
    else:
        result = dict(zip(("train", "val"), hold_out(splits["train"]), strict=False))
    for name, split in splits.items():
        if split not in result.values() and split is not splits["train"]:
            what = "splits that are used neither for training nor for validation"
            result["train"].problems[what].append(f"{name}, {split.origin}")
    return result


def _reasons(problems: Mapping[str, list[str]]) -> list[str]:
    return [f"{len(where)} {kind}: {where[0]}" for kind, where in problems.items() if where]
