"""COCO: which JSON is which split, and where its images are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from detrex.data.coco_format import read_json
from detrex.utils.errors import InputError

from .split import Split

PLACES = ("*.json", "annotations/*.json", "*/*.json")
_SPLITS = {"train": "train", "val": "val", "test": "test"}


def read_coco_layout(root: Path, images: Path | None = None) -> dict[str, Split]:
    """Find the JSONs of a folder, or take the one given, and the folder of the images of each.

    Split names are read off the names of the file or its folder; one that says none is for
    training. Beside COCO's ``instances_*.json`` other JSONs do not count. ``images``: folder that
    the file names are relative to, where it is not near.

    Raises:
        InputError: two JSONs of a split, or images that are nowhere near.
    """
    files = [root] if root.is_file() else [p for place in PLACES for p in sorted(root.glob(place))]
    files = [p for p in dict.fromkeys(files) if p.name.startswith("instances_")] or files
    found: dict[str, Split] = {}
    for file in dict.fromkeys(files):
        try:
            content = read_json(str(file))
        except InputError:
            if root.is_file():
                raise
            continue  # some other JSON
        name = _split_name(file)
        if name in found:
            both = f"{found[name].json_file} and {file}"
            raise InputError(f"{root}: two JSONs for {name}: {both}; give one of them")
        names = [image.get("file_name") for image in content["images"] if isinstance(image, dict)]
        found[name] = Split(images or _image_folder(file, names), json_file=file)
    if not found:
        raise InputError(f"{root}: no JSON here has the lists images, annotations and categories")
    return found


def _split_name(file: Path) -> str:
    words = re.findall(r"train|val|test", f"{file.parent.name.lower()} {file.stem.lower()}")
    return _SPLITS[words[-1]] if words else "train"


def _image_folder(file: Path, names: list) -> Path:
    """The folder under which most of a few images are."""
    sample = [name for name in names[:: max(1, len(names) // 20)] if isinstance(name, str)]
    folders = list(dict.fromkeys(_candidates(file)))
    hits = [sum((folder / name).is_file() for name in sample) for folder in folders]
    if not any(hits):
        raise InputError(
            f"{file}: its images are not near it; give --images FOLDER, under which"
            f" {sample[0] if sample else 'they'} is"
        )
    return folders[hits.index(max(hits))]


def _candidates(file: Path) -> Iterator[Path]:
    stem = file.stem.removeprefix("instances_")
    for base in (file.parent, file.parent.parent):
        yield base
        for name in (stem, "images", f"images/{stem}", "train", "val", "valid", "test"):
            if (base / name).is_dir():
                yield base / name
