"""COCO: the JSON of each split and the folder of its images."""

from __future__ import annotations

import os
from pathlib import Path

from detrex.data.coco_index import read_all
from detrex.data.coco_rules import image_file
from detrex.utils.errors import InputError

from .files import Files, split_of
from .json_kinds import COCO, JsonKind, json_kind
from .refusal import refused_json
from .split import Split

# COCO's other annotations of the same images
_SIBLINGS = "captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_"


def is_coco(files: Files) -> bool:
    """Whether a JSON is in COCO's format."""
    return any(kind.name == COCO for kind in files.jsons.values())


def read_coco_layout(files: Files, images: Path | None = None) -> dict[str, Split]:
    """Find the JSONs of a folder, or take the single one, and the folder of each one's images.

    The name of a JSON, or else of its folder, says its split; without one, or for a single JSON,
    it is train. COCO's own ``instances_*.json`` go before others of their split. File names that
    differ from the files' in case, ending, slashes or folders are corrected in a copy.

    Args:
        files: the data.
        images: folder that the file names are relative to, if it is not near the JSON.

    Raises:
        InputError: two JSONs of a split, images that are not near it, a JSON that is not COCO's.
    """
    if files.single:
        kind = json_kind(files.single)
        if kind.name != COCO:
            raise refused_json(files.single, kind)
        return {"train": _split(files, files.single, kind, images, "train")}
    by_split = _by_split(files)
    if "test" in by_split and not files.json(by_split["test"]).boxes:
        test = files.use(by_split.pop("test"))
        files.notes["test sets without boxes, not used"].append(str(test))
    for path, kind in files.jsons.items():
        if kind.damaged and split_of(path) in {"train", "val"} - by_split.keys():
            raise InputError(kind.reason)
    return {
        name: _split(files, files.use(path), files.json(path), images, name)
        for name, path in by_split.items()
    }


def _by_split(files: Files) -> dict[str, str]:
    """Return split -> path of its JSON."""
    paths = [path for path, kind in files.jsons.items() if kind.name == COCO]
    first = {path for path in paths if _name(path).startswith("instances_")}
    siblings = [path for path in files.jsons if first and _name(path).startswith(_SIBLINGS)]
    for path in siblings:
        files.use(path)
    by_split: dict[str, str] = {}
    # JSONs without a split in their name come last: a train.json goes before them.
    for path in sorted(set(paths).difference(siblings), key=lambda p: (split_of(p) is None, p)):
        name = split_of(path) or "train"
        other = by_split.setdefault(name, path)
        if other == path or (split_of(path) is None and split_of(other)):
            continue
        if (path in first) == (other in first):
            both = f"{files.root / other} and {files.root / path}"
            raise InputError(f"{files.root}: two JSONs for {name}: {both}; give one of them")
        by_split[name] = path if path in first else other
    return by_split


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _split(files: Files, file: Path, kind: JsonKind, images: Path | None, name: str) -> Split:
    folder = images or _image_folder(files, file, kind.names, name)
    origin = f"from {file.relative_to(files.root)}"
    inside = [name for name in kind.names if folder and _is_in(folder, name, file)]
    exact = {name: files.use(Path(image_file(file, folder, name))) for name in inside}
    if images or (folder is None and files.single):
        files = Files(images or file.parent.parent)
    if len(exact) < len(kind.names):
        # With the split's name: other splits may have images of the same names.
        source = f"{name}/{file.name}" if split_of(origin) else file.name
        pairs = _other_names(files, set(kind.names).difference(exact), source)
        if pairs:
            return _renamed(file, exact | pairs, origin)
    if folder is None:
        read_all(file)  # raises if no image has a name
        where = f", under which {kind.names[0]} is" if kind.names else ""
        raise InputError(f"{file}: its images are not near it; give --images FOLDER{where}")
    return Split(folder, json_file=file, origin=origin)


def _is_in(folder: Path, name: str, file: Path) -> bool:
    """Whether a folder has the image that a JSON names, where a training will read it."""
    try:
        return os.path.isfile(folder / name) and bool(image_file(file, folder, name))
    except InputError:  # "../" or an absolute path leads out of it
        return False


def _other_names(files: Files, names: set[str], source: str) -> dict[str, Path]:
    """Return the images that names mean although no file has exactly that name."""
    free = {files.root / path for path in files.unused()}
    pairs, _ = files.pair({name: [name] for name in sorted(names)}, source)
    return {name: files.use(path) for name, path in pairs.items() if path in free}


def _renamed(file: Path, paths: dict[str, Path], origin: str) -> Split:
    """Return the JSON's content with the names that the files have."""
    split = Split(Path(os.path.commonpath([path.parent for path in paths.values()])), origin=origin)
    names = {name: os.path.relpath(path, split.images) for name, path in paths.items()}
    split.take(file, names.get)
    return split


def _image_folder(files: Files, file: Path, names: list[str], split: str) -> Path | None:
    """Return the folder that has the most of a sample of the images, or None.

    Candidates are the JSON's folder and its subfolders, then those of the folder above, if that is
    in the data. Among equal ones, where splits have images of the same names, the one with the
    split's name is returned.
    """
    sample = names[:: max(1, len(names) // 20)]
    bases = [file.parent, file.parent.parent]
    if file.parent == files.root and not files.single:
        del bases[1]  # outside the data, with images of other data sets
    for base in bases:
        folders = [base, *_subfolders(base), *_subfolders(base / "images")]
        hits = [sum(_is_in(folder, name, file) for name in sample) for folder in folders]
        if any(hits):
            named = [split_of(folder.name) == split for folder in folders]
            return max(zip(hits, named, folders, strict=True), key=lambda x: x[:2])[2]
    return None


def _subfolders(base: Path) -> list[Path]:
    return sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
