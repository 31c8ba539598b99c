"""One training run at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from detectron2.utils import comm

from detrex.utils.errors import InputError

logger = logging.getLogger(__name__)
LOCK = ".lock"
_PATIENCE = 10.0  # seconds: the processes of a killed run may take a moment to end


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder for the length of the block, or of this process's life.

    Every process of the run must enter; the main one locks. Data workers do not inherit the lock,
    as they would one of ``flock``: it must not outlive a killed run.

    Raises:
        InputError: another run is in it.
    """
    stream = error = None
    if comm.is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a")
        error = _lock(stream, folder)
    try:
        if error := comm.all_gather(error)[0]:
            raise error
        yield
    finally:
        if stream is not None:
            stream.close()


def _lock(stream: IO, folder: Path) -> InputError | None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning("%s cannot be locked (%s): start no second run in it", folder, error)
                return None
        if time.monotonic() > deadline:
            return InputError(
                f"another run is in output folder {folder}: wait for its end, or give another "
                "train.output_dir"
            )
        time.sleep(0.1)
