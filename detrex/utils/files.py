"""Writing files so that a crash never leaves half of one behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from detrex.utils.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file beside ``path`` that replaces it only when the block ends well.

    Parent folders are created. On an exception the temporary file is removed and ``path`` stays as
    it was. ``mode`` is "w" (UTF-8 text) or "wb".

    Raises:
        InputError: see :func:`check_writable`.
    """
    path = check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.umask(mask := os.umask(0))  # it can only be read by setting it
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike) -> Path:
    """Check, before the work of making its content, that a file can be written; return its path.

    Raises:
        InputError: it is a folder or a device, is below a file, or may not be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file")
    if path.exists() and not path.is_file():  # the new file would replace a device or a FIFO
        raise InputError(f"{path} is no regular file: name another")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {above}")
    return path


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/detrex``, or ``~/.cache/detrex``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detrex"
