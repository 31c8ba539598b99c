"""Starting the processes of a run, and ending all of them with the first error of any."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import torch.distributed as dist

from detrex.utils.device import resolve_device, set_device
from detrex.utils.errors import InputError

from .failures import describe_failure, is_consequence
from .group import TIMEOUT, Machines, end_process, run_in_group
from .rendezvous import rendezvous
from .spawn import spawn


def launch(function: Callable, args: tuple, machines: Machines, device: str) -> None:
    """Call ``function(*args)`` in every process of a run.

    Under torchrun (its environment variables are set) this process is one of them, and ends here.
    Otherwise the processes are started here: none for one process on one machine.

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
    elif machines.processes * machines.count == 1:
        kind, _, number = device.partition(":")
        if number:  # else operators and memory figures mean GPU 0
            set_device(kind, int(number))
        function(*args)
    else:
        if machines.url == "auto":
            if machines.count > 1:
                raise InputError("--num-machines: give --dist-url tcp://HOST:PORT of machine 0")
            machines = Machines(machines.processes, url=f"tcp://127.0.0.1:{_free_port()}")
        spawn(function, args, machines, device)


def check_devices(device: str, processes: int) -> str:
    """The device that is meant, after a check that this machine has one for each process.

    Raises:
        InputError: it does not.
    """
    if processes < 1:
        raise InputError(
            f"--num-gpus {processes}: give 1 or more (with train.device=cpu: processes)"
        )
    return resolve_device(device, processes=processes)


def _run_under_torchrun(function: Callable, args: tuple, local: int, device: str) -> NoReturn:
    rank, world, local_rank = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))

    def meet() -> dist.Store:
        return rendezvous(rank, world, TIMEOUT)

    def fail(error: Exception) -> NoReturn:
        status, text = describe_failure(error)
        # torchrun ends the others once one has said it: all ranks meet bad input alike, and a
        # closed connection is not the cause.
        time.sleep(5 if (rank and isinstance(error, InputError)) or is_consequence(error) else 0)
        print(text, file=sys.stderr, flush=True)
        end_process(status)

    run_in_group(function, args, (rank, world, local_rank, local), device, meet, fail)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
