"""Objects365 V2: COCO JSONs whose file names do not match the folders of the unpacked archives.

Files: https://www.objects365.org/download.html
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from detrex.utils.errors import InputError

from .files import Files
from .split import Split

ANNOTATIONS = "zhiyuan_objv2_*.json"


def is_objects365(files: Files) -> bool:
    """Whether a JSON has the name of Objects365's."""
    return bool(_jsons(files.root))


def _jsons(root: Path) -> list[Path]:
    return sorted([*root.glob(ANNOTATIONS), *root.glob(f"annotations/{ANNOTATIONS}")])


def read_objects365(files: Files) -> dict[str, Split]:
    """Read ``{train,val}/patch<n>/<image>.jpg`` and ``zhiyuan_objv2_{train,val}.json``, beside or
    in ``annotations/``.

    The JSONs say "images/v1/patch8/objects365_v1_00420917.jpg". Missing images (the archives lack
    a few that the JSON lists) are left out and counted.

    Raises:
        InputError: a JSON that is not in COCO format, or a split without its folder.
    """
    splits = {}
    for file in _jsons(files.root):
        name = file.stem.rsplit("_", 1)[1]
        images = files.root / name
        if not images.is_dir():
            raise InputError(f"{images}: folder of the images of {file} not found")
        splits[name] = Split(images, origin=f"from {file.relative_to(files.root)}")
        splits[name].take(files.use(file), partial(_unpacked, images, files))
    return splits


def _unpacked(images: Path, files: Files, written: str) -> str | None:
    """Return the name that an image has in the folder of its split; None if it is not there."""
    path = "/".join(Path(written).parts[-2:])
    if not (images / path).is_file():
        return None
    files.use(images / path)
    return path
