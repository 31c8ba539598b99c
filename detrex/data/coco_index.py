"""A COCO JSON as arrays: of a large one they are files that are made once, the index.

The index lies in ``$XDG_CACHE_HOME/detrex/index`` (``~/.cache/detrex/index``), in a folder named
after the JSON's path, size and time and the version of this reader. All processes of a machine
share its memory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iopath.common.file_io import file_lock

from detrex.utils.errors import InputError
from detrex.utils.files import cache_folder

from .coco import read_entries
from .coco_columns import LARGE, Columns, open_columns
from .coco_growing import Growing
from .coco_kinds import as_entries
from .coco_stream import is_streamed, read_pieces

logger = logging.getLogger(__name__)

VERSION = 2  # of the reader and of the files
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def read_columns(json_file: str | os.PathLike) -> Columns:
    """Return the content of a COCO JSON; from its index if it has ``LARGE`` annotations.

    The index is made if it is missing or damaged. Processes that want the same one wait for the
    first. Without room for it the arrays are in this process's memory, with a warning.

    Raises:
        InputError: naming the file and the byte, or the entry, that is wrong.
    """
    columns = read_all(json_file)
    for entry in columns.summary.left_out[:1]:
        raise InputError(f"{json_file}: {entry.error()}")
    return columns


def read_all(json_file: str | os.PathLike) -> Columns:
    """As :func:`read_columns`; annotations that it would refuse are in ``summary.left_out``."""
    if not is_streamed(json_file):
        return _from_entries(json_file)
    folder = index_folder(json_file)
    if columns := indexed_columns(json_file):
        return columns
    if folder.exists():
        logger.warning("%s: its index %s is damaged: it is made anew", json_file, folder)
    try:
        return _read(str(json_file), folder)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        size = os.path.getsize(json_file) / 3e9  # the arrays take about a third of the JSON
        logger.warning(
            f"{json_file}: no place for its index ({folder.parent}: {error.strerror}), every "
            f"process reads it and holds {size:.1f} GB: set XDG_CACHE_HOME to a folder with room"
        )
        return _read(str(json_file), None)


def indexed_columns(json_file: str | os.PathLike) -> Columns | None:
    """Return the content of a COCO JSON from its index; None if it has none that can be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return open_columns(index_folder(json_file))
    return None


def index_folder(json_file: str | os.PathLike) -> Path:
    """Return the folder of the index of a JSON as it is now."""
    path, state = os.path.realpath(json_file), os.stat(json_file)
    key = f"{state.st_size} {state.st_mtime_ns} {VERSION}"
    return cache_folder() / "index" / f"{_name(path)}-{_digest(key)}"


def _name(path: str) -> str:
    return f"{Path(path).stem[:60]}-{_digest(path)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _from_entries(json_file: str | os.PathLike) -> Columns:
    lists, growing = read_entries(json_file)._asdict(), Growing(str(json_file))
    for section, entries in lists.items():
        growing.add(section, list(as_entries(section, entries.values(), growing.left_out)))
    return growing.finish()


def _read(json_file: str, folder: Path | None) -> Columns:
    """Read a JSON in pieces, into the folder of its index if it is large."""
    growing, start = Growing(json_file), time.perf_counter()
    with ExitStack() as stack:
        for section, entries in read_pieces(json_file, growing.left_out):
            growing.add(section, entries)
            if folder and growing.folder is None and growing.count >= LARGE:
                stack.enter_context(_locked(folder))
                with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                    return open_columns(folder)  # another process was first
                logger.info("%s: large, making its index %s once", json_file, folder)
                growing.move_to(stack.enter_context(_new_folder(folder, _name(json_file))))
        columns = growing.finish()
        if growing.folder is None:
            return columns
        _replace(growing.folder, folder)
    seconds = time.perf_counter() - start
    logger.info(f"{json_file}: {growing.count} boxes indexed in {seconds:.0f} s")
    return open_columns(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(folder)):
        yield


@contextmanager
def _new_folder(folder: Path, name: str) -> Iterator[Path]:
    """Make an empty folder beside ``folder``; what is in it at the end is removed."""
    for left in folder.parent.glob(f".{name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _replace(new: Path, folder: Path) -> None:
    """Put an index in its place, and remove those of the JSON's earlier states."""
    for old in folder.parent.glob(f"{folder.name[:-12]}*"):
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
    new.rename(folder)
