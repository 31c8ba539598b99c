"""Loading processes whose faults and silence end as errors in the process that reads from them."""

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
PATIENCE = 600.0  # seconds for a batch; after them a disk is dead or a process stopped


def guard_workers(loader: Iterable) -> Iterable:
    """Make the failures of a loader's processes errors of its reader; return the loader.

    Batches go through shared memory, or through pipes where none is left. A batch that cannot be
    sent is an error (the queue's own thread would print it and send nothing), and so is one that
    takes more than ten minutes. Only their parent's signals stop the processes, and they end with
    their parent.

    Args:
        loader: a ``DataLoader``, or an iterable with one as ``dataset``, as detectron2's, which
            is changed in place.

    Raises:
        InputError: processes cannot share locks on this machine.
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
    """A pickled batch, which becomes the batch when the reader unpickles it."""

    def __init__(self, data: bytes, trouble: str = "") -> None:
        self._content = data, trouble

    def __reduce__(self) -> tuple:
        return _arrived, self._content


def _arrived(data: bytes, trouble: str) -> object:
    if trouble:
        _warn(trouble.rpartition(": ")[2])
    return pickle.loads(data)  # from a process of this run


@functools.cache
def _warn(reason: str) -> None:  # once for a reason
    logger.warning(
        "loading processes cannot use shared memory (%s): batches come through pipes, which is "
        "slower. A container gets a larger /dev/shm with --shm-size=8g or --ipc=host; fewer "
        "dataloader.train.num_workers need less",
        reason,
    )
