"""Open Images V4 to V7: a CSV of boxes per split, in fractions of the image's size.

Files and columns: https://storage.googleapis.com/openimages/web/download_v7.html
"""

from __future__ import annotations

import csv
from pathlib import Path

from detrex.utils.errors import InputError

from .files import Files
from .split import Split, in_pixels
from .text import number, open_text

BOXES, CLASSES = "*annotations-bbox.csv", "*class-descriptions-boxable.csv"


def is_open_images(files: Files) -> bool:
    """Whether a CSV has the name of Open Images' boxes."""
    return bool(_csvs(files.root, BOXES))


def _csvs(root: Path, pattern: str) -> list[Path]:
    return sorted([*root.glob(pattern), *root.glob(f"*/{pattern}")])


def read_open_images(files: Files) -> dict[str, Split]:
    """Read ``{train,validation,test}/<ImageID>.jpg`` and the CSV files, beside or in a folder.

    Missing images (few people download all) are left out and counted. Boxes around groups become
    crowd regions. Classes are in the order of class-descriptions-boxable.csv.

    Raises:
        InputError: no class file or two, or a CSV without the needed columns.
    """
    root = files.root
    class_files = _csvs(root, CLASSES)
    if len(class_files) != 1:
        raise InputError(f"{root}: needs one file {CLASSES}, found {len(class_files)}")
    with open_text(files.use(class_files[0])) as stream:
        names = dict(
            row[:2] for row in csv.reader(stream) if len(row) > 1 and row[0] != "LabelName"
        )
    splits = {}
    for file in _csvs(root, BOXES):
        folder = next((f for f in ("train", "validation", "test") if f in file.name), None)
        if folder is not None and (root / folder).is_dir():
            origin = f"from {file.relative_to(root)}"
            split = Split(root / folder, list(names.values()), origin=origin)
            _add(split, files.use(file), {code: i for i, code in enumerate(names, 1)})
            splits["val" if folder == "validation" else folder] = split
            for image in split.image_entries:
                files.use(split.images / image["file_name"])
    return splits


def _add(split: Split, file: Path, category_ids: dict[str, int]) -> None:
    images: dict[str, dict | None] = {}
    with open_text(file) as stream:
        for line, row in enumerate(csv.DictReader(stream), 2):
            try:
                name, label, group = row["ImageID"], row["LabelName"], row["IsGroupOf"] == "1"
                corners = [number(row[key]) for key in ("XMin", "YMin", "XMax", "YMax")]
                category_id = category_ids[label]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{file}: line {line}: {error!r}") from None
            if name not in images:
                images[name] = split.add_image(split.images / f"{name}.jpg")
            if image := images[name]:
                split.add_box(image, category_id, in_pixels(image, corners), crowd=group)
