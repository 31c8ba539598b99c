"""The process that runs checks: it may hang, be killed, or leave its GPU unusable."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pkgutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.gpu.checks import Check, CheckFailed, CheckSkipped, Result


class Died(Exception):
    """The worker ended, or was ended for taking too long."""


class Worker:
    """A started process with the libraries loaded; what it prints goes to a log.

    Raises:
        Died: it did not come up.
    """

    def __init__(self, device: str, log: Path, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, device, str(log)))
        self._process.start()
        other.close()
        self.facts = self._answer(limit)

    def run(self, check: Check, limit: float) -> dict:
        """The check's outcome.

        Raises:
            Died: the process ended, or ``limit`` seconds were over; it is gone.
        """
        self._connection.send(check)
        return self._answer(limit)

    def _answer(self, limit: float) -> dict:
        try:
            if self._connection.poll(limit):
                return self._connection.recv()
            reason = f"it took longer than {limit:.0f} s"
        except (EOFError, OSError):
            self._process.join(5)
            reason = f"its process ended with status {self._process.exitcode}"
        self.end()
        raise Died(reason)

    def end(self) -> None:
        """End the process and those it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def serve(connection: Connection, device: str, log: str) -> None:
    """The life of a worker: facts about the machine first, then an outcome for each check."""
    os.setsid()  # so that what a check starts ends with it
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        connection.send(facts(device))
    except Exception as error:
        traceback.print_exc()
        connection.send({"error": f"{type(error).__name__}: {first_line(error)}"})
    with suppress(EOFError):
        while True:
            check = connection.recv()
            print(f"\n=== {check.name}", flush=True)
            connection.send(outcome(check, device))
            tidy(device)


def facts(device: str) -> dict:
    """What the results of this machine are compared by, and its GPUs."""
    import torch

    gpus = torch.cuda.device_count() if device == "cuda" else 0
    if gpus:
        torch.zeros(1, device=device)
    name = torch.cuda.get_device_name(0) if gpus else "cpu"
    return {"gpus": gpus, "device": name, "torch": torch.__version__}


def outcome(check: Check, device: str) -> dict:
    """status ("passed", "failed", "skipped"), figure, rows, seconds; "broken" where the check threw
    something else than its verdict: what comes after it needs a new process."""
    start, broken = time.perf_counter(), False
    try:
        function = pkgutil.resolve_name(check.function)
        status, result = "passed", function(device, **check.options)
    except CheckFailed as error:
        status, result = "failed", Result(str(error))
    except CheckSkipped as error:
        status, result = "skipped", Result(str(error))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        status, result, broken = (
            "failed",
            Result(f"{type(error).__name__}: {first_line(error)}"),
            True,
        )
    print(f"{status}: {result.figure}", flush=True)
    numbers = {"figure": result.figure, "rows": result.rows}
    return {"status": status, **numbers, "seconds": time.perf_counter() - start, "broken": broken}


def first_line(error: BaseException) -> str:
    """Of its message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def tidy(device: str) -> None:
    """Give back memory, so that the next check measures its own."""
    torch = sys.modules["torch"]
    gc.collect()
    with suppress(RuntimeError):
        torch.use_deterministic_algorithms(False)
        if device == "cuda":
            torch.cuda.empty_cache()
