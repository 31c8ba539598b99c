"""Loading processes for which nobody waits in vain."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import pickle
from collections.abc import Callable, Iterable
from multiprocessing.reduction import ForkingPickler

from torch.utils.data import DataLoader, get_worker_info

from detrex.utils.errors import InputError
from detrex.utils.signals import shield_worker

logger = logging.getLogger(__name__)
PATIENCE = 600.0  # seconds for a batch; then a disk does not answer, or a process is stopped


def guard_workers(loader: Iterable) -> Iterable:
    """Return the loader, changed in place if it has processes: what they meet reaches its reader.

    Batches come through shared memory, or through pipes where there is none left. What cannot be
    sent is an error of the process, where a queue's own thread would print it and send nothing. A
    batch that does not come within ten minutes is an error, too. Only their parent stops the
    processes, and they end with it.

    Args:
        loader: a ``DataLoader``, or what wraps one as ``dataset``, as detectron2 does.

    Raises:
        InputError: this machine lets processes share nothing.
    """
    for source in (loader, getattr(loader, "dataset", None)):
        if isinstance(source, DataLoader) and source.num_workers:
            _check_semaphores(source.num_workers)
            source.timeout = source.timeout or PATIENCE
            source.collate_fn = functools.partial(_collate, source.collate_fn)
            source.worker_init_fn = functools.partial(_start, source.worker_init_fn)
    return loader


def _check_semaphores(workers: int) -> None:
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise InputError(
            f"num_workers={workers}: loading processes need /dev/shm ({error.strerror}): make room "
            "there, or add dataloader.train.num_workers=0 dataloader.test.num_workers=0"
        ) from error


def _start(init: Callable[[int], None] | None, worker: int) -> None:
    shield_worker()
    if init is not None:
        init(worker)


def _collate(collate: Callable, samples: object) -> object:
    batch = collate(samples)
    if get_worker_info() is None:
        return batch
    try:
        return _Sent(bytes(ForkingPickler.dumps(batch)))
    except (RuntimeError, OSError) as error:  # no room, no descriptors, no socket to pass them on
        return _Sent(pickle.dumps(batch), str(error))


class _Sent:
    """Becomes the batch where it arrives."""

    def __init__(self, data: bytes, trouble: str = "") -> None:
        self._content = data, trouble

    def __reduce__(self) -> tuple:
        return _arrived, self._content


def _arrived(data: bytes, trouble: str) -> object:
    if trouble:
        _warn(trouble.rpartition(": ")[2])
    return pickle.loads(data)  # of a process of this run


@functools.cache
def _warn(reason: str) -> None:  # once for a reason
    logger.warning(
        "loading processes cannot use shared memory (%s): batches come through pipes, which is "
        "slower. A container gets a larger /dev/shm with --shm-size=8g or --ipc=host; fewer "
        "dataloader.train.num_workers need less",
        reason,
    )
