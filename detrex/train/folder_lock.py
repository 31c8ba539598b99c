"""One training run at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import time
from pathlib import Path
from typing import IO

from detrex.utils.errors import InputError

from .folder import check_regular_files

logger = logging.getLogger(__name__)
LOCK = ".lock"
_PATIENCE = 10.0  # seconds: the processes of a killed run may take a moment to end


def lock_folder(folder: Path) -> IO:
    """Keep other runs out of a folder; return the file to close when this run ends.

    Raises:
        InputError: another run is in it, or what a run writes to is no regular file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_regular_files(folder, LOCK)
    stream = (folder / LOCK).open("a")
    deadline = time.monotonic() + _PATIENCE
    try:
        while not try_lock(stream):
            if time.monotonic() > deadline:
                raise InputError(
                    f"another run is in output folder {folder}: wait for its end, or give another "
                    "train.output_dir"
                )
            time.sleep(0.1)
    except OSError as error:
        logger.warning("%s cannot be locked (%s): start no second run in it", folder, error)
    return stream


def try_lock(stream: IO, inherited: bool = False) -> bool:
    """Lock an open file; return False if another process has locked it.

    Args:
        stream: holds the lock until it is closed or its process ends.
        inherited: processes that are started with the file hold the lock as well; else it ends with
            this process, as it must if this one is killed and its data workers live on.

    Raises:
        OSError: the file system has no locks.
    """
    lock = fcntl.flock if inherited else fcntl.lockf
    try:
        lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True
