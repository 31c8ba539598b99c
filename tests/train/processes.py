"""Training runs in processes of their own, to be killed; forked from one that has imported all."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.train.runs import assert_equal

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["detrex.train", "tests.train.tiny"])
_SECONDS = 120
# Every part of a run's state matters: averages, loss scale, dropout, the matcher's switch, windows
# of metrics that checkpoints cut in two, a loading process. The width makes checkpoints slow.
OPTIONS = [
    "train.max_iter=30 train.checkpointer.period=4 train.eval_period=7 train.log_period=3",
    "train.model_ema.enabled=true train.amp.enabled=true train.amp.dtype=float16",
    "train.matcher_change_fraction=0.5 model.dropout=0.3 model.width=50000",
    "dataloader.train.num_workers=1",
]
OPTIONS = [option for options in OPTIONS for option in options.split()]


def start(arguments: list[str], log: Path) -> multiprocessing.Process:
    """Start ``train_net.py`` with these arguments; what it prints is added to ``log``."""
    process = _CONTEXT.Process(target=_main, args=(arguments, str(log)))
    process.start()
    return process


def _main(arguments: list[str], log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["train_net.py", *arguments]
    multiprocessing.set_start_method("fork", force=True)  # as in a process of the shell
    from detrex.train import main

    main(arguments)


def finish(process: multiprocessing.Process) -> int:
    """Wait for the end; return the exit status."""
    process.join(_SECONDS)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def wait_until(condition: Callable[[], object], process: multiprocessing.Process) -> bool:
    """Wait for the condition; False if the process ends before."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if not process.is_alive():
            return False
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.0002)
    return True


def iterations(folder: Path) -> int:
    """Number of the last iteration in the run's metrics; -1 without any."""
    path = folder / "metrics.json"
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1])["iteration"] if lines and lines[-1].endswith("}") else -1


def assert_same_run(folder: Path, reference: Path) -> None:
    """Final state and all numbers on the way are equal, bit for bit; times aside."""
    ours, theirs = (
        torch.load(f / "model_final.pth", weights_only=True) for f in (folder, reference)
    )
    for part in ("model", "ema_state", "trainer", "iteration"):
        assert_equal(ours[part], theirs[part])
    assert metrics(folder) == metrics(reference)
    assert json.loads((folder / "best.json").read_text()) == json.loads(
        (reference / "best.json").read_text()
    )


def metrics(folder: Path) -> dict[tuple[int, str], str]:
    """(iteration, name) -> value of every number but times; NaN compares by its text."""
    found = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        numbers = json.loads(line)
        for name, value in numbers.items():
            if "time" not in name and "eta" not in name:
                found[numbers["iteration"], name] = repr(value)
    return found
