"""What is in the folder of a data set: files by kind, splits by name, and whose image is which."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import unquote

from detrex.utils.images import ENDINGS
from detrex.utils.text import first_few

from .json_kinds import JsonKind, json_kind
from .text import GUESS, encoding

# What folders and files of a split are called, in any case, with years or other words around.
_WORDS = {
    "train": "train training trainset trn",
    "val": "val valid validation validate valset dev devset eval evaluation",
    "test": "test testing testset tst",
    "trainval": "trainval",
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words.split()}
_NOT_DATA = {"__MACOSX", "@eaDir"}  # what unpacking and picture viewers leave behind


@lru_cache(maxsize=4096)
def split_of(path: str) -> str | None:
    """The split that a relative path names, "train", "val", "test" or "trainval"; the last part
    first. None if no part names one."""
    for part in reversed(path.replace("\\", "/").split("/")):
        words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", part).lower())
        splits = [_SPLITS[word] for word in words if word in _SPLITS]
        if splits:  # COCO's "test-dev" is a test set
            return "test" if words[-2:] == ["test", "dev"] else splits[-1]
    return None


class Files:
    """The files below a folder, and which of them have been read.

    Hidden files and what other programs leave behind are not among them, nor is what is no regular
    file. Paths are relative to the folder, with slashes.

    Args:
        root: the folder.
        given: an annotation file in it that alone is meant.
    """

    def __init__(self, root: Path, given: Path | None = None) -> None:
        self.root, self.given = root, given
        self.notes: dict[str, list[str]] = defaultdict(list)  # kind of problem -> where
        self.reasons: list[str] = []  # why files that look like data are none
        self._used: set[str] = set()
        self._jsons: dict[str, JsonKind] = {}

    @cached_property
    def paths(self) -> list[str]:
        """All of them, in order."""
        return sorted(self._walk())

    def _walk(self) -> Iterator[str]:
        above: dict[str, frozenset[str]] = {}  # links may lead round in circles
        walk = os.walk(self.root, followlinks=True, onerror=self._cannot_list)
        for folder, folders, names in walk:
            real = os.path.realpath(folder)
            folders[:] = [f for f in folders if f[0] != "." and f not in _NOT_DATA]
            parents = above.get(os.path.dirname(folder), frozenset())
            if real in parents:
                folders.clear()
                continue
            above[folder] = parents | {real}
            relative = os.path.relpath(folder, self.root)
            start = "" if relative == os.curdir else f"{relative}/"
            for name in names:
                if name[0] == ".":
                    continue
                if os.path.isfile(os.path.join(folder, name)):
                    yield start + name
                else:
                    self.notes["links to nothing, or no regular files"].append(start + name)

    def _cannot_list(self, error: OSError) -> None:
        self.notes["folders that cannot be listed"].append(f"{error.filename}: {error.strerror}")

    def ending(self, *endings: str) -> list[str]:
        """Those with one of these endings, in any case."""
        return [path for path in self.paths if path.lower().endswith(endings)]

    @cached_property
    def images(self) -> list[str]:
        """Those that can be read as images, by their endings."""
        return self.ending(*ENDINGS)

    @property
    def jsons(self) -> dict[str, JsonKind]:
        """What each of the JSON files is."""
        return {path: self.json(path) for path in self.ending(".json")}

    def json(self, path: str) -> JsonKind:
        """What a JSON file is; each is read once."""
        if path not in self._jsons:
            self._jsons[path] = json_kind(self.root / path)
        return self._jsons[path]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems = defaultdict(list)
        for path in self.images:
            stems[stem(path)].append(path)
        return stems

    @cached_property
    def _image_splits(self) -> set[str | None]:
        return {split_of(posixpath.dirname(path)) for path in self.images}

    def use(self, path: str | Path) -> Path:
        """Mark a file as read, by its relative or whole path; return the whole one."""
        whole = path if isinstance(path, Path) else self.root / path
        self._used.add(str(whole).removeprefix(f"{self.root}/"))
        return whole

    def folder(self, path: Path) -> str:
        """The folder of a whole path, relative."""
        return posixpath.dirname(str(path).removeprefix(f"{self.root}/"))

    def note_encoding(self, path: str | Path) -> None:
        """Add a file that is read as Windows-1252 to the notes: its letters are a guess."""
        if encoding(self.root / path) == GUESS:
            self.notes["files that are not UTF-8, read as Windows-1252"].append(str(path))

    def unused(self) -> list[str]:
        """Those that nobody has read."""
        return [path for path in self.paths if path not in self._used]

    def image(self, stated: str, source: str = "") -> Path | None:
        """The image that an annotation file names, which stands at ``source``.

        Case, ending, slashes and folders above may differ. Among those of one name the folders
        decide; the image of another split is not meant, if there are folders of splits.
        """
        return self.pair({source: [stated]})[0].get(source)

    def pair(
        self, names: Mapping[str, Sequence[str]], source: str | None = None
    ) -> tuple[dict[str, Path], list[str]]:
        """Annotation files and their images; each image belongs to the one that fits it best.

        Args:
            names: path of an annotation file -> what its image may be called.
            source: where all of them stand, if they are no files but entries of one.

        Returns:
            The image by the path of the annotation file, and those whose image is another one's.
        """
        choices, owners = {}, {}
        for key, stated in names.items():
            found = (self._closest(name, key if source is None else source) for name in stated)
            choices[key] = next(filter(None, found), None)
            if choices[key]:
                score, image = choices[key]
                rival = owners.setdefault(image, key)
                if score > choices[rival][0]:
                    owners[image] = key
        pairs = {key: self.root / image for image, key in owners.items()}
        return pairs, [key for key, choice in choices.items() if choice and key not in pairs]

    def _closest(self, stated: str, source: str) -> tuple[tuple, str] | None:
        """(closeness, path) of the image that is meant, by its name or in an address."""
        stated = stated.replace("\\", "/").strip()
        names = stem(stated), stem(unquote(stated)), stem(unquote(stated.split("?")[0]))
        names += tuple(os.path.splitext(name)[0] for name in names)  # of another ending
        candidates = next(filter(None, map(self._by_stem.get, names)), ())
        split = split_of(posixpath.dirname(source))
        split = split if split in self._image_splits else None  # all images may be in one folder
        scored = (
            (_closeness(path, stated, source), path)
            for path in candidates
            if split is None or split_of(posixpath.dirname(path)) in (None, split)
        )
        return max(scored, key=lambda pair: pair[0], default=None)


def by_folder(
    files: Files, paths: Iterable[str], images: Mapping[str, Path] | None = None
) -> dict[str, tuple[list[str], str]]:
    """Split -> (paths, where that is said): the split that a folder above names, or one above the
    path's image, else "train"."""
    splits: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, dict[str, None]] = defaultdict(dict)
    for path in paths:
        folder = posixpath.dirname(path)
        if images and path in images and split_of(folder) is None:
            near = files.folder(images[path])
            folder = near if split_of(near) else folder
        name = split_of(folder) or "train"
        splits[name].append(path)
        folders[name][f"{folder or files.root.name}/"] = None
    return {name: (splits[name], f"from {first_few([*folders[name]])}") for name in splits}


def set_name(path: str) -> str | None:
    """The split that a list's name says, and nothing else: not of "cat_train.txt"; Ultralytics
    writes "autosplit_train.txt"."""
    name = re.sub(r"[\W\d_]|^autosplit", "", posixpath.splitext(path.rsplit("/", 1)[-1])[0]).lower()
    return _SPLITS.get(name)


def closest(paths: Sequence[str], source: str) -> str:
    """The path whose folders have most in common with those of ``source``, from the top."""
    return max(paths, key=lambda path: _closeness(path, "", source))


def stem(path: str) -> str:
    """What an image and its annotation file have in common: the name without the ending, in one
    case and one form of its accents."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    for endings in ((".txt", ".xml", ".json"), tuple(ENDINGS)):  # also of "a.jpg.txt"
        start, ending = os.path.splitext(name)
        name = start if ending.lower() in endings else name
    return unicodedata.normalize("NFC", name).casefold()


def _closeness(path: str, stated: str, source: str) -> tuple[int, ...]:
    """How well an image's path fits a name and the path of the file that states it."""
    *folders, name = path.split("/")
    *above, stated_name = stated.split("/")
    *near, _ = source.split("/")
    common = _equal(folders, near)
    return (
        _equal(folders[::-1], above[::-1]),
        name.lower() == stated_name.lower(),  # a mask of the image has another ending
        common,
        len({f.lower() for f in folders} & {f.lower() for f in near}),
        common - len(folders),
        name == stated_name,
        stem(path) == stem(source),
    )


def _equal(a: Iterable[str], b: Iterable[str]) -> int:
    """How many of the first entries are equal, whatever their case."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x.lower() != y.lower():
            break
        count += 1
    return count
