"""Starting the processes of a run, or meeting those that torchrun has started."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

from detrex.utils.device import resolve_device, set_device
from detrex.utils.errors import InputError

from .failures import describe_failure, is_consequence

_ADDRESS = "detrex/address"
_PATIENCE = timedelta(seconds=3)


@dataclass(frozen=True)
class Machines:
    """The machines and processes of a run.

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

    Under torchrun (its environment variables are set) this process is one of them; it ends here,
    without a return. A run of one process runs in this one; more processes are started.

    Args:
        function: importable by name.
        args: picklable.
        machines: ignored under torchrun.
        device: "auto", "cpu", a type of accelerator, or for one process "cuda:1"; decides the
            backend (nccl, xccl, gloo).

    Raises:
        InputError: more processes than GPUs, no such device, or an incomplete description of
            machines.
        SystemExit: a process failed, its error has been printed; or the run was preempted.
    """
    under_torchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if under_torchrun else machines.processes
    device = check_devices(device, local)
    if under_torchrun:
        _run_under_torchrun(function, args, local, device)
    if machines.processes * machines.count == 1:
        kind, _, number = device.partition(":")
        if number:  # else operators and memory figures mean the first one
            set_device(kind, int(number))
        function(*args)
        return
    if machines.url == "auto":
        if machines.count > 1:
            raise InputError("--num-machines: give --dist-url tcp://HOST:PORT of machine 0")
        machines = Machines(machines.processes, url=f"tcp://127.0.0.1:{_free_port()}")
    from .spawn import spawn  # a run of one process needs none of it

    spawn(function, args, machines, device)


def check_devices(device: str, processes: int) -> str:
    """Return the device of a run, after a check that this machine has one for each process.

    Raises:
        InputError: it does not.
    """
    if processes < 1:
        raise InputError(
            f"--num-gpus {processes}: give 1 or more, on a CPU the number of processes"
        )
    return resolve_device(device, processes=processes)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_under_torchrun(function: Callable, args: tuple, local: int, device: str) -> NoReturn:
    from .group import TIMEOUT, end_process, run_in_group

    rank, world, local_rank = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))

    def fail(error: Exception) -> NoReturn:
        status, text = describe_failure(error)
        # torchrun ends all processes after the first failure, so a process that fails because of
        # another one waits; so do all but one with bad input, which is the same for all.
        time.sleep(5 if (rank and isinstance(error, InputError)) or is_consequence(error) else 0)
        print(text, file=sys.stderr, flush=True)
        end_process(status)

    def meet() -> dist.Store:
        return _rendezvous(rank, world, TIMEOUT)

    run_in_group(function, args, (rank, world, local_rank, local), device, meet, fail)


def _rendezvous(rank: int, world: int, timeout: timedelta) -> dist.Store:
    """Return a new store through which torchrun's processes meet; every process calls this.

    torchrun keeps one store over all restarts, in which a new process would read, and wait for, the
    address of a dead one. So process 0 opens another, and writes its address into torchrun's.

    Raises:
        dist.DistError: process 0 does not come within ``timeout``.
    """
    shared, *_ = next(dist.rendezvous("env://", rank, world, timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return shared
    host = os.environ["MASTER_ADDR"]
    if rank == 0:
        store = dist.TCPStore(host, 0, world, True, timeout, wait_for_workers=False)
        shared.set(_ADDRESS, str(store.port))
        return store
    deadline = time.monotonic() + timeout.total_seconds()
    while True:  # the address of an earlier start refuses connections until it is replaced
        port = int(shared.get(_ADDRESS))
        try:
            store = dist.TCPStore(host, port, world, False, _PATIENCE, wait_for_workers=False)
        except (dist.DistNetworkError, dist.DistStoreError):
            if time.monotonic() > deadline:
                raise
            continue
        store.set_timeout(timeout)
        return store
