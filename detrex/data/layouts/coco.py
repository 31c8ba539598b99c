"""COCO: which JSON is which split, and where its images are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from detrex.utils.coco import read_json
from detrex.utils.errors import InputError

from .split import Split

PLACES = ("*.json", "annotations/*.json", "*/*.json")


def read_coco_layout(root: Path, images: Path | None = None) -> dict[str, Split]:
    """Find the JSONs of a folder, or take the one given, and the folder of the images of each.

    Split names are read off the names of the files; one that says none, or is given alone, is for
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
        name = "train" if root.is_file() else _split_name(file)
        if name in found:
            both = f"{found[name].json_file} and {file}"
            raise InputError(f"{root}: two JSONs for {name}: {both}; give one of them")
        names = [image.get("file_name") for image in content["images"] if isinstance(image, dict)]
        found[name] = Split(images or _image_folder(file, names, name), json_file=file)
    if not found:
        raise InputError(f"{root}: no JSON here has the lists images, annotations and categories")
    return found


def _split_name(file: Path) -> str:
    """By the file's name; else by its folder's, as Roboflow has it."""
    words = [file.parent.name] if file.parent.name in ("train", "valid", "test") else []
    words += _split_words(file.stem)
    return words[-1].replace("valid", "val") if words else "train"


def _split_words(name: str) -> list[str]:
    return re.findall(r"(?<![a-z])(train|val|test)", name.lower())


def _image_folder(file: Path, names: list, split: str) -> Path:
    """The folder under which most of a few images are: the JSON's, its subfolders, or those of the
    folder above. Of equal ones, where splits number their images alike, the one named as it is."""
    sample = [name for name in names[:: max(1, len(names) // 20)] if isinstance(name, str)]
    for base in (file.parent, file.parent.parent):
        folders = [base, *_subfolders(base), *_subfolders(base / "images")]
        hits = [sum(os.path.isfile(folder / name) for name in sample) for folder in folders]
        if any(hits):
            named = [split in _split_words(folder.name) for folder in folders]
            return max(zip(hits, named, folders, strict=True), key=lambda x: x[:2])[2]
    where = f", under which {sample[0]} is" if sample else ""
    raise InputError(f"{file}: its images are not near it; give --images FOLDER{where}")


def _subfolders(base: Path) -> list[Path]:
    return sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
