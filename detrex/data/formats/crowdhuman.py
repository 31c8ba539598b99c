"""CrowdHuman: a JSON object per line and image, with boxes of whole bodies, heads and what is seen.

Files and keys: https://www.crowdhuman.org/download.html (Shao et al. 2018, arXiv:1805.00123).
"""

from __future__ import annotations

import json
from pathlib import Path

from detrex.utils.errors import InputError

from .files import Files
from .split import Split
from .text import open_text

ANNOTATIONS = "annotation_*.odgt"
FOLDERS = ("Images", "images")


def is_crowdhuman(files: Files) -> bool:
    """Whether a file has the name of CrowdHuman's annotations."""
    return bool(_odgts(files.root))


def _odgts(root: Path) -> list[Path]:
    return sorted([*root.glob(ANNOTATIONS), *root.glob(f"annotations/{ANNOTATIONS}")])


def read_crowdhuman(files: Files) -> dict[str, Split]:
    """Read ``annotation_{train,val}.odgt`` and ``Images/<ID>.jpg``, of all splits together.

    Boxes are those of whole bodies ("fbox"), which may leave the image. What is to be ignored, and
    what only looks like people ("mask"), become crowd regions. Missing images are left out and
    counted.

    Raises:
        InputError: no folder of images, or a line that is not an image's.
    """
    root = files.root
    images = next((root / name for name in FOLDERS if (root / name).is_dir()), None)
    if images is None:
        raise InputError(f"{root}: folder of the images of CrowdHuman not found: Images/")
    splits = {}
    for file in _odgts(root):
        split = Split(images, ["person"], origin=f"from {file.relative_to(root)}")
        _add(split, files.use(file))
        splits[file.stem.partition("_")[2]] = split
        for image in split.image_entries:
            files.use(images / image["file_name"])
    return splits


def _add(split: Split, file: Path) -> None:
    with open_text(file) as stream:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
                name, people = str(entry["ID"]), [_person(box) for box in entry["gtboxes"]]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{file}: line {line}: {error!r}") from None
            if image := split.add_image(split.images / f"{name}.jpg"):
                for corners, is_crowd in people:
                    split.add_box(image, 1, corners, crowd=is_crowd)


def _person(box: dict) -> tuple[list[float], bool]:
    """Return corners x0, y0, x1, y1 in pixels, and whether the box is to be ignored."""
    x, y, width, height = map(float, box["fbox"])
    extra = box.get("extra") or {}
    return [x, y, x + width, y + height], box["tag"] != "person" or extra.get("ignore", 0) == 1
