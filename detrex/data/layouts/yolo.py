"""YOLO: a YAML file names splits and classes; a text file per image has a line per object.

Layout: https://docs.ultralytics.com/datasets/detect (boxes) and .../segment (polygons).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from detrex.utils.errors import InputError
from detrex.utils.images import ENDINGS
from detrex.utils.text import first_line

from .split import Split

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def read_yolo(root: Path) -> dict[str, Split]:
    """Read a folder that holds ``data.yaml`` (or another YAML with ``names``), or that file.

    Boxes are class, centre x and y, width, height as parts of the image's, and maybe a score;
    polygons count with the box around them.

    Raises:
        InputError: no usable YAML file, or a split that is not there.
    """
    file, config = _config(root)
    names = config["names"]
    names = names if isinstance(names, dict) else dict(enumerate(names))
    classes = [str(names[key]) for key in sorted(names)]
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{file}: names: classes must be numbered from 0 without gaps")
    found = {}
    for key, split_name in _SPLITS.items():
        if config.get(key):
            images = sorted(_images(file, config, config[key]))
            if not images:
                raise InputError(f"{file}: {key}: no images in {config[key]}")
            folder = Path(os.path.commonpath([path.parent for path in images]))
            found[split_name] = split = Split(folder, classes)
            for path in images:
                _add(split, path)
    return found


def _config(root: Path) -> tuple[Path, dict]:
    files = [root] if root.is_file() else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{file}: not a YAML file ({first_line(error)})") from None
        if isinstance(content, dict) and isinstance(content.get("names"), list | dict):
            return file, content
    raise InputError(f"{files[0]}: not a YOLO data set, it needs the list of 'names'")


def _images(file: Path, config: dict, entries: object) -> Iterator[Path]:
    """Image files of a split: of folders, and of text files with a path per line."""
    base = file.parent / str(config.get("path") or "")
    for entry in entries if isinstance(entries, list) else [entries]:
        entry = str(entry)
        # Roboflow writes "../train/images" for a folder beside the YAML file.
        places = base / entry, file.parent / entry, base / entry.removeprefix("../")
        place = next((path for path in places if path.exists()), None)
        if place is None:
            raise InputError(f"{file}: {entry} not found; looked for {places[0]}")
        if place.is_dir():
            yield from (p for p in place.rglob("*") if p.suffix.lower() in ENDINGS)
        else:
            lines = place.read_text(encoding="utf-8", errors="replace").split("\n")
            yield from (place.parent / line.strip() for line in lines if line.strip())


def _add(split: Split, path: Path) -> None:
    image = split.add_image(path)
    labels = _label_file(path)
    if image is None or not labels.is_file():  # an image without objects
        return
    for number, line in enumerate(
        labels.read_text(encoding="utf-8", errors="replace").split("\n"), 1
    ):
        try:
            box = _parse(line.split(), len(split.categories))
        except ValueError as error:
            kind = "lines that are not class, x, y, width, height, left out"
            split.problems[kind].append(f"{labels}:{number}: {error}")
            continue
        if box is not None:
            label, *corners = box
            sides = (image["width"], image["height"]) * 2
            split.add_box(image, label + 1, [c * s for c, s in zip(corners, sides, strict=True)])


def _label_file(image: Path) -> Path:
    """``labels`` in place of the path's last ``images``."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _parse(values: list[str], classes: int) -> tuple[float, ...] | None:
    """Class and relative x0, y0, x1, y1 of a line; None of an empty one."""
    if not values:
        return None
    label, *numbers = map(float, values)
    if label not in range(classes):
        raise ValueError(f"class {values[0]}, there are {classes}")
    if not all(-1e6 < number < 1e6 for number in numbers):
        raise ValueError("not finite")
    if len(numbers) in (4, 5):
        x, y, w, h = numbers[:4]
        return int(label), x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{len(values)} values")
    xs, ys = numbers[0::2], numbers[1::2]
    return int(label), min(xs), min(ys), max(xs), max(ys)
