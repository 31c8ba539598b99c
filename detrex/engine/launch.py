"""Starting the processes of a run, and ending all of them with the first error of any."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException

from detrex.utils.errors import InputError
from detrex.utils.signals import heeded_signals

from .failures import describe_failure
from .preemption import PREEMPTED
from .rendezvous import rendezvous

_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Machines:
    """Where a run's processes are.

    Attributes:
        processes: on this machine; one per GPU.
        count: machines.
        rank: this machine's number, from 0.
        url: where rank 0 listens, e.g. "tcp://10.0.0.1:29500"; "auto" on one machine.
    """

    processes: int = 1
    count: int = 1
    rank: int = 0
    url: str = "auto"


def launch(function: Callable, args: tuple, machines: Machines, device: str) -> None:
    """Call ``function(*args)`` in every process of a run.

    Under torchrun (its environment variables are set) this process is one of them, and ends here.
    Otherwise the processes are started here: none for one process on one machine.

    Args:
        function: importable by name.
        args: picklable.
        machines: ignored under torchrun.
        device: "cuda", "cpu", or for one process "cuda:1"; decides the backend (nccl, gloo).

    Raises:
        InputError: more processes than GPUs, no GPU, or an incomplete description of machines.
        SystemExit: a process failed, its error has been printed; or the run was preempted.
    """
    under_torchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if under_torchrun else machines.processes
    check_devices(device, local)
    if under_torchrun:
        _run_under_torchrun(function, args, local, device)
    elif machines.processes * machines.count == 1:
        if device.startswith("cuda:"):  # else operators and memory figures mean GPU 0
            torch.cuda.set_device(device)
        function(*args)
    else:
        _spawn(function, args, machines, device)


def check_devices(device: str, processes: int) -> None:
    """Check that this machine has a device for each process.

    Raises:
        InputError: it does not.
    """
    if processes < 1:
        raise InputError(
            f"--num-gpus {processes}: give 1 or more (with train.device=cpu: processes)"
        )
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise InputError(f"train.device={device}, but there is no usable GPU: add train.device=cpu")
    available = torch.cuda.device_count()
    if processes > available:
        raise InputError(f"--num-gpus {processes}, but this machine has {available} GPUs")
    index = torch.device(device).index or 0
    if index >= available or (index and processes > 1):
        raise InputError(
            f"train.device={device}: give cuda, or for one process one of {available} GPUs"
        )


def _join_group(rank: int, local_rank: int, local: int, device: str, **where: object) -> None:
    if device.startswith("cuda"):
        torch.cuda.set_device(local_rank)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, rank=rank, timeout=_TIMEOUT, **where)
    comm.create_local_process_group(local)
    comm.synchronize()


def _call_in_group(function: Callable, args: tuple) -> NoReturn:
    try:
        function(*args)
        status = 0
    except SystemExit as end:  # preempted, in all processes
        status = end.code or 0
    dist.destroy_process_group()
    end_process(status)


def end_process(status: int) -> NoReturn:
    """End this process of a group, without the interpreter's finalization.

    During that, a thread of gloo's that lets go of its last tensor may abort the process (Python
    before 3.14 ends threads that wait for its lock), and a finished run would count as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run_under_torchrun(function: Callable, args: tuple, local: int, device: str) -> NoReturn:
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    try:
        world = int(os.environ["WORLD_SIZE"])
        store = rendezvous(rank, world, _TIMEOUT)
        _join_group(rank, local_rank, local, device, store=store, world_size=world)
        _call_in_group(function, args)
    except Exception as error:
        code, text = describe_failure(error)
        # All ranks meet bad input alike; torchrun ends the others once rank 0 has said it.
        time.sleep(5 if rank and isinstance(error, InputError) else 0)
        print(text, file=sys.stderr, flush=True)
        end_process(code)


def _spawn(function: Callable, args: tuple, machines: Machines, device: str) -> None:
    if machines.url == "auto":
        if machines.count > 1:
            raise InputError("--num-machines: give --dist-url tcp://HOST:PORT of machine 0")
        machines = Machines(machines.processes, url=f"tcp://127.0.0.1:{_free_port()}")
    # It warns of every process that it ends after another's failure.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        context = mp.start_processes(
            _spawned,
            args=(function, args, machines, device, folder),
            nprocs=machines.processes,
            join=False,
            start_method="spawn",
        )
        signals = _forward_signals(context.pids())
        try:
            while not context.join():
                pass
        except ProcessExitedException as error:
            failures = _failures(Path(folder))
            # Without a failure of its own a signalled process was still starting: nothing is lost.
            if error.exit_code == PREEMPTED or (signals and not failures):
                raise SystemExit(PREEMPTED) from None
            raise SystemExit(_print_first(failures, error)) from None


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


def _spawned(
    local_rank: int, function: Callable, args: tuple, machines: Machines, device: str, folder: str
) -> NoReturn:
    """The life of one started process."""
    if signal.SIGINT in heeded_signals():  # until the run listens, Ctrl-C ends it without a word
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    rank = machines.rank * machines.processes + local_rank
    world = machines.processes * machines.count
    if not device.startswith("cuda"):
        torch.set_num_threads(max(1, torch.get_num_threads() // machines.processes))
    try:
        _join_group(
            rank,
            local_rank,
            machines.processes,
            device,
            init_method=machines.url,
            world_size=world,
        )
        _call_in_group(function, args)
    except Exception as error:
        code, text = describe_failure(error)
        record = {"time": time.time(), "code": code, "text": text}
        Path(folder, f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")
        end_process(code)


def _failures(folder: Path) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]


def _print_first(failures: list[dict], error: ProcessExitedException) -> int:
    """Print the earliest error: the others' are its consequences, e.g. a closed connection."""
    if not failures:  # killed from outside
        print(f"error: {error}", file=sys.stderr)
        return 1
    first = min(failures, key=lambda record: record["time"])
    print(first["text"], file=sys.stderr)
    return first["code"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
