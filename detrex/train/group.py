"""One process among those of its run: it meets them, watches them, and ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist
from detectron2.utils import comm

from detrex.utils.device import device_kind, group_backend, set_device
from detrex.utils.signals import watch_parent

from .heartbeat import Heartbeat

TIMEOUT = timedelta(minutes=30)  # for all to start, and for one collective operation
_NOTICE = 60.0  # seconds of waiting for the others before a message
_FAREWELL = 30.0  # seconds that a run without its launcher has to save its step


def run_in_group(
    function: Callable,
    args: tuple,
    place: tuple[int, int, int, int],
    device: str,
    meet: Callable[[], dist.Store],
    fail: Callable[[Exception], NoReturn],
) -> NoReturn:
    """Call ``function(*args)`` as one process of a run, and end this process.

    When its parent ends, it ends as after a signal, at the latest half a minute later.

    Args:
        function: raises ``SystemExit`` if the run is preempted.
        args: of the function.
        place: rank and number of processes, in the run and on this machine.
        device: "cpu", or an accelerator, of which each process takes one.
        meet: returns the store through which the processes find each other; may take long.
        fail: ends this process with an error.
    """
    rank, world, local_rank, local = place
    watch_parent(_end_as_orphan)
    try:
        store = _patiently(meet, rank, world)
        kind = device_kind(device)
        set_device(kind, local_rank)
        backend = group_backend(kind)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
        comm.create_local_process_group(local)
        comm.synchronize()
        heartbeat = Heartbeat(store, rank, world, fail)
        function(*args)
        status = 0
    except SystemExit as end:  # preempted, in all processes
        status = end.code or 0
    except Exception as error:
        fail(error)
    heartbeat.stop()
    dist.destroy_process_group()
    end_process(status)


def _patiently(meet: Callable[[], dist.Store], rank: int, world: int) -> dist.Store:
    text = f"process {rank} still waits for all {world} processes of the run to start"
    notice = threading.Timer(_NOTICE, print, (text,), {"file": sys.stderr, "flush": True})
    notice.daemon = True
    notice.start()
    try:
        return meet()
    finally:
        notice.cancel()


def _end_as_orphan() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_FAREWELL)
    os._exit(1)


def end_process(status: int) -> NoReturn:
    """End this process without the interpreter's finalization.

    Until Python 3.14 that ends threads that wait for the interpreter's lock: one of gloo's that
    frees its last tensor may abort the process, and a finished run would count as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
