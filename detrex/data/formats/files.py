"""The files of a data set's folder: by kind, by split, and each annotation file's image."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from detrex.utils.images import ENDINGS
from detrex.utils.text import first_few

from .json_kinds import JsonKind, json_kind
from .text import GUESS, encoding

# Words in the names of a split's folders and files, in any case, among years and other words.
_WORDS = {
    "train": "train training trainset trn",
    "val": "val valid validation validate valset dev devset eval evaluation",
    "test": "test testing testset tst",
    "trainval": "trainval",
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words.split()}
_NOT_DATA = {"__MACOSX", "@eaDir"}  # left behind by unpacking and by picture viewers
# Endings, and beginnings of names, of files that hold no annotations.
_NO_DATA = ".md .rst .html .pdf .py .ipynb .sh .zip .tar .gz .tgz .7z .rar .cache .log .ini .lock"
_TEXTS = ("readme", "license", "licence", "copying", "citation", "changelog", "requirements")


@lru_cache(maxsize=4096)
def split_of(path: str) -> str | None:
    """Return the split that a relative path names: "train", "val", "test", "trainval" or None.

    The file's name counts before its folder, and that before the folders above.
    """
    for name in reversed(path.replace("\\", "/").split("/")):
        words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower())
        splits = [_SPLITS[word] for word in words if word in _SPLITS]
        if splits:  # COCO's "test-dev" is a test set
            return "test" if words[-2:] == ["test", "dev"] else splits[-1]
    return None


class Files:
    """The files below a folder, and which of them have been read.

    Hidden files, leftovers of other programs and anything but regular files are left out. Paths
    are relative to the folder, with slashes.

    Args:
        root: the folder.
        single: the only annotation file in it to read; None reads all that belong to the data.
    """

    def __init__(self, root: Path, single: Path | None = None) -> None:
        self.root, self.single = root, single
        self.notes: dict[str, list[str]] = defaultdict(list)  # kind of problem -> where
        self.reasons: list[str] = []  # why files that look like annotations are not read
        self._used: set[str] = set()
        self._jsons: dict[str, JsonKind] = {}

    @cached_property
    def paths(self) -> list[str]:
        """All files, sorted."""
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
        """Files with one of these endings, in any case."""
        return [path for path in self.paths if path.lower().endswith(endings)]

    @cached_property
    def images(self) -> list[str]:
        """Image files, by their endings."""
        return self.ending(*ENDINGS)

    @property
    def jsons(self) -> dict[str, JsonKind]:
        """JSON files and their formats."""
        return {path: self.json(path) for path in self.ending(".json")}

    def json(self, path: str) -> JsonKind:
        """Return the format of a JSON file, which is read once."""
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
        """Mark a file as read, by its relative or whole path; return the whole path."""
        whole = path if isinstance(path, Path) else self.root / path
        self._used.add(str(whole).removeprefix(f"{self.root}/"))
        return whole

    def folder(self, path: Path) -> str:
        """Return the folder of a whole path, relative to the root."""
        return posixpath.dirname(str(path).removeprefix(f"{self.root}/"))

    def note_encoding(self, path: str | Path) -> None:
        """Note a file that is read as Windows-1252: its letters are a guess."""
        if encoding(self.root / path) == GUESS:
            self.notes["files that are not UTF-8, read as Windows-1252"].append(str(path))

    def unused(self) -> list[str]:
        """Files that no reader has used."""
        return [path for path in self.paths if path not in self._used]

    def note_unused(self) -> None:
        """Note unused files, unless they are plainly no data."""
        for path in self.unused():
            name = path.rsplit("/", 1)[-1].lower()
            ending = os.path.splitext(name)[1]
            if ending in ENDINGS:
                self.notes["images in no split, left out"].append(path)
            elif not name.startswith(_TEXTS) and ending not in _NO_DATA.split():
                kind = self.json(path) if ending == ".json" else None
                where = kind.reason if kind and kind.damaged else path
                where += f" ({kind.name})" if kind and kind.name else ""
                self.notes["other files, not read"].append(where)

    def image(self, stated: str, source: str = "") -> Path | None:
        """Return the image that the annotation file at ``source`` calls ``stated``, or None.

        Case, ending, slashes and the folders above may differ. Among images of the same name the
        one with the most similar folders is returned, never one of another split's folder.
        """
        return self.pair({source: [stated]})[0].get(source)

    def pair(
        self, names: Mapping[str, Sequence[str]], source: str | None = None
    ) -> tuple[dict[str, Path], list[str]]:
        """Match annotation files with images; an image goes to the file that fits it best.

        Args:
            names: path of an annotation file -> names that its image may have.
            source: the file that holds all the keys of ``names``, if these are entries, not files.

        Returns:
            The image by the path of the annotation file, and the files whose image another has.
        """
        choices, owners = {}, {}
        for key, stated in names.items():
            images = (self._closest(name, key if source is None else source) for name in stated)
            choices[key] = next(filter(None, images), None)
            if choices[key]:
                score, image = choices[key]
                rival = owners.setdefault(image, key)
                if score > choices[rival][0]:
                    owners[image] = key
        pairs = {key: self.root / image for image, key in owners.items()}
        return pairs, [key for key, choice in choices.items() if choice and key not in pairs]

    def _closest(self, stated: str, source: str) -> tuple[tuple, str] | None:
        """Return (closeness, path) of the image that a name or an address means."""
        stated = stated.replace("\\", "/").strip()
        names = stem(stated), stem(unquote(stated)), stem(unquote(stated.split("?")[0]))
        names += tuple(os.path.splitext(name)[0] for name in names)  # without their endings
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
    """Return the paths of each split, and the folders that say so: split -> (paths, origin).

    The split is the one that a folder above the path names, else one above its image, else "train".
    """
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
    """Return the split whose name is all of a list's name ("train.txt", "autosplit_train.txt" of
    Ultralytics); None for "cat_train.txt"."""
    name = re.sub(r"[\W\d_]|^autosplit", "", posixpath.splitext(path.rsplit("/", 1)[-1])[0]).lower()
    return _SPLITS.get(name)


def closest(paths: Sequence[str], source: str) -> str:
    """Return the path that shares the most folders with ``source``, from the top."""
    return max(paths, key=lambda path: _closeness(path, "", source))


def stem(path: str) -> str:
    """Return a file's name without its ending, in lower case and with composed accents: the same
    for an image and its annotation file."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    for endings in ((".txt", ".xml", ".json"), tuple(ENDINGS)):  # also of "a.jpg.txt"
        start, ending = os.path.splitext(name)
        name = start if ending.lower() in endings else name
    return unicodedata.normalize("NFC", name).casefold()


def _closeness(path: str, stated: str, source: str) -> tuple[int, ...]:
    """Return how close an image's path is to a name stated at ``source``; larger is closer."""
    *folders, name = path.split("/")
    *above, stated_name = stated.split("/")
    *near, _ = source.split("/")
    common = count_equal(folders, near)
    return (
        count_equal(folders[::-1], above[::-1]),
        name.lower() == stated_name.lower(),  # a mask of the image has another ending
        common,
        len({f.lower() for f in folders} & {f.lower() for f in near}),
        common - len(folders),
        name == stated_name,
        stem(path) == stem(source),
    )


def count_equal(a: Iterable[str], b: Iterable[str]) -> int:
    """Count the equal entries at the beginning, whatever their case."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))
