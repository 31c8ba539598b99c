"""Formats that are not read: how they are recognised, and what converts them."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

from .files import Files
from .json_kinds import JsonKind
from .text import is_number, read_lines

_ARCHIVES = ".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz"
_ANNOTATIONS = ".json", ".xml", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".data", ".names"
_DATUM = "convert it with Datumaro: datum convert -if {} -i DATA -f coco -o OUT"
_EXPORT = "export it from there as COCO"
ADVICE = {
    "COCO Panoptic": "convert it with panopticapi's panoptic2detection_coco_format.py",
    "KITTI": _DATUM.format("kitti"),
    "WIDER FACE": _DATUM.format("wider_face"),
    "CreateML": "import it into Roboflow and export it as COCO",
    "VoTT": "export it from VoTT as Pascal VOC, or " + _DATUM.format("vott_json"),
    "TFRecord": _DATUM.format("tf_detection_api"),
    "VGG Image Annotator": _EXPORT,
    "Label Studio": _EXPORT + " or YOLO",
    "Supervisely": _EXPORT,
    "FiftyOne": "export it from there with dataset_type=fiftyone.types.COCODetectionDataset",
    "Datumaro": _DATUM.format("datumaro"),
    "Cityscapes": _DATUM.format("cityscapes"),
    "CVAT for images": _EXPORT + " 1.0",
    "DOTA": "convert it with Ultralytics' convert_dota_to_yolo_obb",
    "MOT": _DATUM.format("mot"),
    "JSON Lines": "write its boxes to a CSV or a COCO JSON",
    "Parquet": "write its images to files and its boxes to a CSV or a COCO JSON",
}
_BY_ENDING = {
    "VoTT": (".vott",),
    "Parquet": (".parquet",),
    "JSON Lines": (".jsonl", ".ndjson", ".odgt", ".manifest"),
}


def refusal(files: Files, layouts: Collection[str]) -> InputError:
    """Return the error that says why nothing in a folder can be read."""
    if name := _format(files):
        return InputError(f"{files.root}: {name}, which is not read: {ADVICE[name]}")
    endings = Counter(os.path.splitext(path)[1].lower() or "without ending" for path in files.paths)
    holds = ", ".join(f"{n} {ending}" for ending, n in endings.most_common(5)) or "no files"
    files.reasons += [f"{files.root / path}: unpack it" for path in files.ending(*_ARCHIVES)]
    if endings and not files.ending(*_ANNOTATIONS, *_ARCHIVES):
        elsewhere = f"give their JSON or CSV, and --images {files.root}"
        files.reasons.append(f"if the annotations are elsewhere, {elsewhere}")
    reasons = [kind.reason for kind in files.jsons.values()] + files.reasons
    why = f": {first_few(reasons, separator='; ')}" if reasons else ""
    return InputError(f"{files.root}: none of {', '.join(layouts)}; it holds {holds}{why}")


def _format(files: Files) -> str | None:
    """Return the name of a format that other programs read, or None."""
    for kind in files.jsons.values():
        if kind.name in ADVICE:
            return kind.name
    for name, endings in _BY_ENDING.items():
        if files.ending(*endings):
            return name
    if any(re.search(r"\.(tf)?records?(-\d+-of-\d+)?$", path) for path in files.paths):
        return "TFRecord"
    if any(_root_tag(files.root / path) == "annotations" for path in files.ending(".xml")[:3]):
        return "CVAT for images"
    texts = (read_lines(files.root / path)[:4] for path in files.ending(".txt")[:100])
    return next(filter(None, (_text_format([line for _, line in lines]) for lines in texts)), None)


def _root_tag(path: Path) -> str | None:
    try:
        return ET.parse(path).getroot().tag
    except (ET.ParseError, ValueError, LookupError):
        return None


def _text_format(lines: list[str]) -> str | None:
    """Return the format of a text file by its first lines, or None."""
    words = lines[0].split() if lines else []
    if len(words) in (15, 16) and not is_number(words[0]) and all(map(is_number, words[1:])):
        return "KITTI"
    if len(lines) > 2 and lines[1].isdecimal() and len(lines[2].split()) == 10:
        return "WIDER FACE"  # a path, a count, and as many boxes with six attributes each
    dota = [line.split() for line in lines if not line.startswith(("imagesource", "gsd"))]
    if dota and len(dota[0]) == 10 and all(map(is_number, dota[0][:8])):
        return "DOTA" if not is_number(dota[0][8]) else None
    fields = lines[0].split(",") if lines else []
    return "MOT" if len(fields) in (9, 10) and all(map(is_number, fields)) else None


def refused_json(path: Path, kind: JsonKind) -> InputError:
    """Return the error that says why a JSON is not read as COCO's."""
    if kind.name in ADVICE:
        return InputError(f"{path}: {kind.name}, which is not read: {ADVICE[kind.name]}")
    advice = ", of one image: give the folder" if kind.name else ""
    return InputError(kind.reason + advice)
