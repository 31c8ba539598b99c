"""Objects365 V2: COCO JSONs whose image names are of another place than the unpacked patches.

Files: https://www.objects365.org/download.html
"""

from __future__ import annotations

from pathlib import Path

from detrex.utils.coco import read_entries
from detrex.utils.errors import InputError

from .files import Files
from .split import Split

ANNOTATIONS = "zhiyuan_objv2_*.json"


def is_objects365(files: Files) -> bool:
    """Whether there is a JSON that is called as theirs."""
    marks = ANNOTATIONS, f"annotations/{ANNOTATIONS}"
    return any(next(files.root.glob(mark), None) for mark in marks)


def read_objects365(files: Files) -> dict[str, Split]:
    """Read ``{train,val}/patch<n>/<image>.jpg`` and ``zhiyuan_objv2_{train,val}.json``, beside or
    in ``annotations/``.

    The JSONs say "images/v1/patch8/objects365_v1_00420917.jpg". Images that are not there (the
    archives lack a few that the JSON lists) are left out and counted.

    Raises:
        InputError: a JSON that is not in COCO format, or a split without its folder.
    """
    root, found = files.root, {}
    for file in sorted([*root.glob(ANNOTATIONS), *root.glob(f"annotations/{ANNOTATIONS}")]):
        name = file.stem.rsplit("_", 1)[1]
        if not (root / name).is_dir():
            raise InputError(f"{root / name}: folder of the images of {file} not found")
        found[name] = split = _read(files.use(file), root / name)
        split.origin = f"from {file.relative_to(root)}"
        for image in split.image_entries:
            files.use(split.images / image["file_name"])
    return found


def _read(file: Path, images: Path) -> Split:
    entries, split = read_entries(str(file)), Split(images)
    split.categories = list(entries.categories.values())
    for image in entries.images.values():
        name = "/".join(Path(image["file_name"]).parts[-2:])
        if (images / name).is_file():
            split.image_entries.append({**image, "file_name": name})
        else:
            split.problems["images that are missing, left out"].append(name)
    present = {image["id"] for image in split.image_entries}
    split.annotations = [a for a in entries.annotations.values() if a["image_id"] in present]
    return split
