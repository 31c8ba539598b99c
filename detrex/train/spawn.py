"""The processes of a run on this machine: started, watched and ended together."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
import torch.distributed as dist

from detrex.utils.signals import heeded_signals
from detrex.utils.streams import outlive_readers

from .failures import describe_failure, ended_by, is_consequence
from .group import TIMEOUT, end_process, run_in_group
from .preemption import PREEMPTED

if TYPE_CHECKING:
    from .launch import Machines

_LAST_WORDS = 5.0  # seconds for the others to end by themselves after one has failed
_GRACE = 30.0  # seconds for them to obey the SIGTERM that follows


def spawn(function: Callable, args: tuple, machines: Machines, device: str) -> None:
    """Call ``function(*args)`` in every process of this machine; return when all have ended.

    Raises:
        SystemExit: a process failed, its error has been printed; or the run was preempted.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_spawned, args=(rank, function, args, machines, device, folder))
            for rank in range(machines.processes)
        ]
        try:
            for process in processes:
                process.start()
            signals = _forward_signals([process.pid for process in processes])
            statuses = _await(processes)
        finally:
            _end(processes)
        failures = [json.loads(path.read_text("utf-8")) for path in Path(folder).glob("*.json")]
    if not any(statuses):
        return
    # A signalled process that reports no failure was still starting: nothing is lost.
    if PREEMPTED in statuses or (signals and not failures):
        raise SystemExit(PREEMPTED)
    first = machines.rank * machines.processes
    status, text = _cause(failures, statuses, first)
    print(text, file=sys.stderr)
    raise SystemExit(status)


def _forward_signals(processes: Sequence[int]) -> list[int]:
    """Pass stop signals on to the started processes; return a list to which they are added."""
    received = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    for number in heeded_signals():
        signal.signal(number, forward)
    return received


def _await(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Return the exit statuses once all have ended, or a moment after one has failed.

    A status is negative for a signal, and None for a process that still runs.
    """
    running = {process.sentinel: process for process in processes}
    deadline = None
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ended = wait(running, left)
        if not ended:
            break
        for process in [running.pop(sentinel) for sentinel in ended]:
            process.join()  # its sentinel is ready a moment before its status
            if process.exitcode and deadline is None:
                deadline = time.monotonic() + _LAST_WORDS
    return [process.exitcode for process in processes]


def _end(processes: Sequence[BaseProcess]) -> None:
    """End the processes that still run; one that is stopped does not obey SIGTERM."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()


def _cause(failures: list[dict], statuses: list[int | None], first: int) -> tuple[int, str]:
    """Return exit status and text of what went wrong first, consequences of it last.

    Args:
        failures: the records that processes have written.
        statuses: of the processes, by their number on this machine.
        first: rank of the first process.
    """
    failures = sorted(failures, key=lambda record: (record["consequence"], record["time"]))
    if failures and not failures[0]["consequence"]:
        return failures[0]["status"], failures[0]["text"]
    for number, status in enumerate(statuses):
        if status is not None and status < 0:  # a signal from outside, or a bug in C
            return 1, f"error: rank {first + number} of the run {ended_by(-status)}"
    if failures:
        return failures[0]["status"], failures[0]["text"]
    number, status = next((n, s) for n, s in enumerate(statuses) if s)
    return 1, f"error: rank {first + number} of the run ended with status {status}, saying nothing"


def _spawned(
    local_rank: int, function: Callable, args: tuple, machines: Machines, device: str, folder: str
) -> NoReturn:
    """Run a started process from beginning to end."""
    outlive_readers()
    if signal.SIGINT in heeded_signals():  # until the run listens, Ctrl-C ends it silently
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    rank = machines.rank * machines.processes + local_rank
    world = machines.processes * machines.count
    if device == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // machines.processes))

    def meet() -> dist.Store:
        return next(dist.rendezvous(machines.url, rank, world, timeout=TIMEOUT))[0]

    def fail(error: Exception) -> NoReturn:
        status, text = describe_failure(error)
        record = {"time": time.time(), "status": status, "text": text}
        record["consequence"] = is_consequence(error)
        Path(folder, f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")
        end_process(status)

    place = rank, world, local_rank, machines.processes
    run_in_group(function, args, place, device, meet, fail)
