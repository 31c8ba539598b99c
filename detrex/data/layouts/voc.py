"""PASCAL VOC: an XML file per image, in a VOCdevkit or beside the images.

Layout: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from detrex.utils.errors import InputError

from .split import Split

_FOLDERS = {"train": "train", "valid": "val", "test": "test"}  # as Roboflow names them


def read_voc(root: Path) -> dict[str, Split]:
    """Read VOCdevkit, one of its years, or folders of images with their XML files.

    Of a devkit whose ``ImageSets/Main`` have a test set, all of trainval is for training (VOC
    07+12, with 2007's test); else train and val are what they say. Objects marked difficult count
    as any other. Classes are in alphabetical order.

    Raises:
        InputError: an image set that names a file which is not there.
    """
    files = _devkit(root) or _folders(root)
    parsed = {name: [_parse(path) for path in paths] for name, paths in files.items()}
    objects = [o for part in parsed.values() for tree in part for o in _objects(tree)]
    classes = sorted({_text(o, "name") for o in objects} - {""})
    found = {}
    for name, paths in files.items():
        found[name] = split = Split(root, classes)
        for path, tree in zip(paths, parsed[name], strict=True):
            _add(split, path, tree, classes)
    return found


def _devkit(root: Path) -> dict[str, list[Path]]:
    """XML files by split, of ImageSets or, without them, all of Annotations for training."""
    years = [f for f in (root, *sorted(root.iterdir())) if (f / "Annotations").is_dir()]
    sets: dict[str, list[Path]] = {}
    for year in years:
        for file in sorted((year / "ImageSets" / "Main").glob("*.txt")):
            if file.stem in ("train", "val", "trainval", "test"):
                sets.setdefault(file.stem, []).extend(_image_set(year, file))
    both = sets.get("trainval") or [*sets.get("train", []), *sets.get("val", [])]
    if "test" in sets and both:
        return {"train": both, "val": sets["test"]}
    if sets:
        return {n: sets[n] for n in ("train", "val") if n in sets} or {"train": [*sets.values()][0]}
    everything = [path for year in years for path in sorted((year / "Annotations").glob("*.xml"))]
    return {"train": everything} if everything else {}


def _image_set(year: Path, file: Path) -> list[Path]:
    names = [
        line.split()[0] for line in file.read_text(errors="replace").split("\n") if line.strip()
    ]
    paths = [year / "Annotations" / f"{name}.xml" for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{file}: {len(missing)} annotation files are missing: {missing[0]}")
    return paths


def _folders(root: Path) -> dict[str, list[Path]]:
    found = {split: sorted((root / name).glob("*.xml")) for name, split in _FOLDERS.items()}
    found = {split: paths for split, paths in found.items() if paths}
    return found or {"train": sorted(root.glob("*.xml"))}


def _parse(path: Path) -> ET.Element | None:
    try:
        return ET.parse(path).getroot()
    except (ET.ParseError, ValueError, LookupError):
        return None


def _objects(tree: ET.Element | None) -> list[ET.Element]:
    return [] if tree is None else tree.findall("object")


def _text(node: ET.Element, path: str) -> str:
    return (node.findtext(path) or "").strip()


def _add(split: Split, path: Path, tree: ET.Element | None, classes: Sequence[str]) -> None:
    if tree is None:
        split.problems["XML files that do not parse, left out"].append(str(path))
        return
    try:
        stated = int(_text(tree, "size/width")), int(_text(tree, "size/height"))
    except ValueError:
        stated = None
    name = _text(tree, "filename")
    file = _image(path, name)
    if file is None:
        kind = "images that are missing, left out"
        split.problems[kind].append(f"{path}: {name or path.stem + '.jpg'}")
        return
    image = split.add_image(file, stated)
    if image is None:
        return
    for item in _objects(tree):
        try:
            corners = [
                float(_text(item, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
            ]
            number = classes.index(_text(item, "name")) + 1
        except ValueError:
            split.problems["objects without a name or a box, left out"].append(str(path))
            continue
        # The devkit counts pixels from 1 and the last one is inside.
        corners[:2] = (max(0.0, value - 1) for value in corners[:2])
        split.add_box(image, number, corners)


def _image(path: Path, stated: str) -> Path | None:
    """The image of an XML file: of the same name, or of the one that it states."""
    ending = Path(stated).suffix or ".jpg"
    folders = [path.parent.parent / name for name in ("JPEGImages", "images")]
    places = [f / name for f in (*folders, path.parent) for name in (path.stem + ending, stated)]
    return next((place for place in places if place.is_file()), None)
