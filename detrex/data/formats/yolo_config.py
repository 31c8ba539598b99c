"""The config of a YOLO data set: a YAML, darknet's obj.data, or a list of class names."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import yaml

from detrex.utils.errors import InputError
from detrex.utils.safe_yaml import yaml_fault

from .files import Files, count_equal, set_name, split_of
from .text import load_json, read_names, read_text

_UNSET = "", "~", "null", "None"
_NAMES = ".names", ".labels"  # endings of darknet's files of names


class YoloConfig(NamedTuple):
    """``base``: folder that paths are relative to; ``splits``: split -> folders and lists;
    ``names``: the classes, None where no file names them; ``values``: numbers in a label with
    keypoints, 0 without."""

    file: Path | None
    base: str
    splits: dict[str, list[str]]
    names: list[str] | None
    values: int


def has_config(files: Files) -> bool:
    """Whether a YAML or obj.data is a YOLO config; broken ones are noted as reasons."""
    for file in _config_files(files):
        try:
            if _is_config(_content(file)):
                return True
        except InputError as error:
            files.reasons.append(str(error))
    return False


def _config_files(files: Files) -> list[Path]:
    """Return the YAML and obj.data files, nearest to the root first; deeper ones than one folder
    belong to programs that lie in the data."""
    if files.single:
        return [files.single]
    paths = [p for p in files.ending(".yaml", ".yml", ".data") if p.count("/") <= 1]
    return [files.root / path for path in sorted(paths, key=lambda p: (p.count("/"), p))]


def _content(file: Path) -> object:
    text = read_text(file)
    if file.suffix.lower() == ".data":
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key.strip(): value.strip() for key, _, value in pairs}
    return _parsed(file, text)


def _parsed(file: Path, text: str) -> object:
    try:
        return yaml.load(text, Loader=_AsWritten)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a YAML file ({yaml_fault(error)})") from None


class _AsWritten(yaml.BaseLoader):
    """A loader that leaves values as text: the class "no" is not False, and 007 is not 7. A key
    that occurs twice, also as 0 and "0", is an error."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        times = Counter(str(key.value) for key, _ in node.value)
        if double := next((key for key, count in times.items() if count > 1), None):
            raise yaml.YAMLError(f"the key {double!r} is there twice")
        return super().construct_mapping(node, deep)


def _is_config(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    names, train = content.get("names"), content.get("train")
    return isinstance(names, list | dict | str) or isinstance(train, list | str)


def read_config(files: Files) -> YoloConfig:
    """Read the YAML or obj.data of a folder, or the single file, and the classes' names.

    Raises:
        InputError: the single file, or the only one, is no YOLO config; its classes are not
            numbered 0, 1, 2, ...; two configs in different folders.
    """
    configs, broken = {}, []
    for file in _config_files(files):
        try:
            content = _content(file)
        except InputError as error:
            broken.append(error)
            continue
        if _is_config(content):
            configs[file] = content
    if configs:
        file, *others = configs
        other = next((o for o in others if len(o.parts) == len(file.parts)), file)
        if other.parent != file.parent:
            raise InputError(f"{files.root}: two data sets, {file} and {other}; give one of them")
        return _config(files, files.use(file), configs[file])
    if broken:
        raise broken[0]
    if files.single:
        raise InputError(f"{files.single}: not a YOLO data set, it has neither 'names' nor 'train'")
    return YoloConfig(None, "", {}, _names_nearby(files), 0)


def _config(files: Files, file: Path, content: dict) -> YoloConfig:
    splits = {}
    for key, value in content.items():
        entries = value if isinstance(value, list) else [value]
        entries = [entry for entry in entries if isinstance(entry, str) and entry not in _UNSET]
        if (name := set_name(str(key))) and entries:
            splits[name] = entries
    shape = content.get("kpt_shape")
    values = 0
    if isinstance(shape, list) and len(shape) == 2 and all(str(n).isdecimal() for n in shape):
        values = 5 + int(shape[0]) * int(shape[1])
    names = _names(files, file, content)
    stated = content.get("nc")
    if names is not None and stated is not None and str(stated) != str(len(names)):
        kind = "numbers of classes (nc) that are not the names'"
        files.notes[kind].append(f"{file}: {stated}, there are {len(names)} names")
    base = content.get("path")
    base = base if isinstance(base, str) and base not in _UNSET else ""
    return YoloConfig(file, base, splits, names, values)


def _names(files: Files, file: Path, content: dict) -> list[str] | None:
    names = content.get("names")
    if isinstance(names, str) and names.startswith(("[", "{")):  # a list in quotes
        names = _parsed(file, names)
    if isinstance(names, str):
        path = resolve(files, file, "", names)
        if path is None or not path.is_file():
            raise InputError(f"{file}: names: {names} not found")
        return read_names(files.use(path))
    if names is None:
        return _names_nearby(files)
    pairs = [*names.items()] if isinstance(names, dict) else [*enumerate(names)]
    if not all(isinstance(name, str) and str(key).isdecimal() for key, name in pairs):
        raise InputError(f"{file}: names: must be texts, numbered from 0")
    by_number = {int(key): name for key, name in pairs}
    if sorted(by_number) != list(range(len(pairs))):
        raise InputError(f"{file}: names: classes must be numbered from 0 without gaps")
    return [by_number[key] for key in sorted(by_number)]


def _names_nearby(files: Files) -> list[str] | None:
    """Return the names in classes.txt, obj.names or the like, or in Label Studio's notes.json."""
    lists: dict[str, list[str]] = {}
    for path in files.ending(".txt", *_NAMES):
        name = posixpath.basename(path).lower()
        if name.endswith(_NAMES) or any(word in name for word in ("classes", "labels", "names")):
            lists[path] = read_names(files.use(path))
            files.note_encoding(path)
    longest = max(lists.values(), key=len, default=None)
    for path, names in lists.items():
        if names != longest[: len(names)]:
            other = next(p for p, n in lists.items() if n is longest)
            raise InputError(f"{files.root}: {other} and {path} list other classes; remove one")
    for path in files.ending("notes.json"):
        notes = load_json(files.use(path))
        categories = notes.get("categories") if isinstance(notes, dict) else None
        if longest is None and categories and all("id" in c and "name" in c for c in categories):
            longest = [str(c["name"]) for c in sorted(categories, key=lambda c: c["id"])]
    return longest


def resolve(files: Files, file: Path, base: str, entry: str) -> Path | None:
    """Return the folder or list that an entry of a config means, or None.

    The folders above it may differ from those in the entry: data sets are moved.
    """
    entry = entry.replace("\\", "/").strip()
    below = entry
    while below.startswith(("../", "./")):  # Roboflow writes "../train/images" for one beside it
        below = below.split("/", 1)[1]
    folder = file.parent
    candidates = folder / base / entry, folder / entry, folder / base / below, folder / below
    exact = (Path(os.path.normpath(path)) for path in candidates if path.exists())
    return next(exact, None) or _by_end(files, below)


def _by_end(files: Files, entry: str) -> Path | None:
    """Return the file or folder whose path ends like the entry; "valid" stands for "val", too."""
    above = {str(folder) for path in files.paths for folder in PurePosixPath(path).parents}
    scored = [
        (_equal_ends(path, entry), -path.count("/"), path)
        for path in above.union(files.paths) - {"."}
        if split_of(path) == split_of(entry)
    ]
    best = max(scored, default=(0, 0, ""))
    return files.root / best[2] if best[0] else None


def _equal_ends(a: str, b: str) -> int:
    ends = (path.lower().rstrip("/").split("/")[::-1] for path in (a, b))
    return count_equal(*([split_of(name) or name for name in names] for names in ends))
