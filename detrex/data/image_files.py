"""The image files of a COCO JSON: that they are there, and which of them are equal."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_json_object
from detrex.utils.text import first_few

from .coco_columns import Columns
from .coco_rules import image_file

logger = logging.getLogger(__name__)


def check_images(json_file: str, image_root: str, columns: Columns) -> None:
    """Check that all images are there, and warn of files with several ids.

    A folder of an index's images is listed again only when it has changed.

    Raises:
        InputError: names the first images that are missing.
    """
    if not os.path.isdir(image_root):
        raise InputError(f"{image_root}: image folder of {json_file} not found")
    root = hashlib.sha256(os.fsencode(os.path.realpath(image_root))).hexdigest()[:12]
    path = columns.folder and columns.folder / f"images_{root}.json"
    checked = read_json_object(path, {}) if path and path.exists() else None
    if checked is None or _times(checked["folders"]) != checked["folders"]:
        checked = _look_for_images(json_file, image_root, columns)
        if path:
            with atomic_write(path) as stream:
                json.dump(checked, stream)
    if checked["shared"]:
        logger.warning(checked["shared"])


def _times(folders: Sequence[str]) -> dict[str, int]:
    """Return folder -> when its list of files changed; -1 if it is not there."""
    times = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            times[folder] = os.stat(folder).st_mtime_ns
    return {folder: times.get(folder, -1) for folder in folders}


def _look_for_images(json_file: str, image_root: str, columns: Columns) -> dict:
    """Return the folders of the images with their times, and the warning about shared files."""
    present: dict[str, set[str]] = {}  # folder -> names of its files
    missing: list[str] = []
    hashes = np.empty(len(columns.image_id), np.int64)
    for images, _ in columns.blocks():
        names = columns.names(images.start, images.stop)
        for number, name in enumerate(names, images.start):
            file = image_file(json_file, image_root, name)
            hashes[number] = hash(file)
            folder, base = os.path.split(file)
            if folder not in present:
                present[folder] = set(_files_in(folder))
            if base not in present[folder]:
                missing.append(name)
    if missing:
        raise InputError(
            f"{json_file}: {len(missing)} of {len(hashes)} images are missing in {image_root}: "
            f"{first_few([*map(repr, missing)])}"
        )
    shared = _files_of_equal_hashes(json_file, image_root, columns, hashes)
    warning = ""
    if shared:
        shown = first_few(
            [f"{path!r}: {first_few([*map(str, ids)])}" for path, ids in shared.items()],
            separator="; ",
        )
        warning = f"{json_file}: {len(shared)} image files have several image ids: {shown}"
    return {"folders": _times(list(present)), "shared": warning}


def files_of_several_ids(
    json_file: str, image_root: str | os.PathLike, columns: Columns
) -> dict[str, list[int]]:
    """Return path -> image ids, for image files of several ids."""
    hashes = map(hash, ImagePaths(json_file, image_root, columns))
    hashes = np.fromiter(hashes, np.int64)
    return _files_of_equal_hashes(json_file, image_root, columns, hashes)


def _files_of_equal_hashes(
    json_file: str, image_root: str | os.PathLike, columns: Columns, hashes: np.ndarray
) -> dict[str, list[int]]:
    files = defaultdict(list)
    for index in of_equal(hashes).tolist():
        path = image_file(json_file, image_root, *columns.names(index, index + 1))
        files[path].append(int(columns.image_id[index]))
    return {path: ids for path, ids in files.items() if len(ids) > 1}


def of_equal(values: np.ndarray) -> np.ndarray:
    """Return the ascending indices of values (N,) that occur more than once."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[inverse] > 1)


class ImagePaths:
    """The paths of a JSON's images, which are made each time they are gone through."""

    def __init__(self, json_file: str, image_root: str | os.PathLike, columns: Columns) -> None:
        self.json_file, self.image_root, self.columns = json_file, image_root, columns

    def __iter__(self) -> Iterator[str]:
        for images, _ in self.columns.blocks():
            for name in self.columns.names(images.start, images.stop):
                yield image_file(self.json_file, self.image_root, name)


def _files_in(folder: str) -> Iterator[str]:
    """Yield the names of a folder's files; none if it cannot be listed."""
    # One listing: a stat per file takes minutes on a network drive.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a broken link
                if entry.is_file():
                    yield entry.name


def equal_files(splits: Mapping[str, Iterable[str]]) -> list[list[tuple[str, str]]]:
    """Return groups of (split, path) whose files have the same bytes. Only files of equal length
    are read.

    Args:
        splits: split -> paths that can be gone through several times.
    """

    def pairs() -> Iterator[tuple[str, str]]:
        return ((split, path) for split, paths in splits.items() for path in paths)

    sizes = np.fromiter((_size(path) for _, path in pairs()), np.int64)
    is_read = np.zeros(len(sizes), bool)
    is_read[of_equal(sizes)] = True
    is_read &= sizes >= 0
    read = itertools.compress(pairs(), is_read)
    digests = np.fromiter((_digest(path) for _, path in read), np.int64)
    is_equal = np.zeros(len(sizes), bool)
    is_equal[np.flatnonzero(is_read)[of_equal(digests)]] = True
    groups: dict[int, dict[tuple[str, str], None]] = defaultdict(dict)
    equal = itertools.compress(pairs(), is_equal)
    for pair, digest in zip(equal, digests[of_equal(digests)].tolist(), strict=True):
        groups[digest][pair] = None
    return [[*group] for group in groups.values() if len(group) > 1]


def _size(path: str) -> int:
    """Return the size of a file in bytes; -1 without a file."""
    return os.path.getsize(path) if os.path.isfile(path) else -1


def _digest(path: str) -> int:
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as stream:
        hashlib.file_digest(stream, lambda: digest)
    return int.from_bytes(digest.digest(), "little", signed=True)
