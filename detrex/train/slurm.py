"""Training as a Slurm job that saves and is requeued when it is preempted or out of time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detrex.utils.errors import InputError
from detrex.utils.signals import STOP_SIGNALS

if TYPE_CHECKING:
    import submitit

try:
    from submitit import AutoExecutor
    from submitit.helpers import Checkpointable, DelayedSubmission
except ImportError:
    AutoExecutor, Checkpointable = None, object


class TrainingJob(Checkpointable):
    """A job of submitit that runs ``train_net.py`` in another process.

    Args:
        command: path and arguments of the script; a requeued job adds ``--resume``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)

    def __call__(self) -> int:
        """Train; return the exit status, 0.

        Raises:
            RuntimeError: another exit status; the job counts as failed.
        """
        if int(os.environ.get("SLURM_RESTART_COUNT", 0)):  # Slurm requeued it: a node failed
            self.command = _resuming(self.command)
        # In a session of its own: submitit handles the signals to this process's group.
        self._process = subprocess.Popen([sys.executable, *self.command], start_new_session=True)
        self._await_end()
        status = self._process.wait()
        if status:
            raise RuntimeError(f"{self.command[0]} ended with exit status {status}")
        return status

    def checkpoint(self) -> DelayedSubmission:
        """Stop the training, which saves; return the job to requeue."""
        self._process.send_signal(STOP_SIGNALS[0])
        self._await_end()
        return DelayedSubmission(TrainingJob(_resuming(self.command)))

    def _await_end(self) -> None:
        # Not Popen.wait: it holds a lock while submitit's signal handler calls checkpoint.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)


def _resuming(command: Sequence[str]) -> list[str]:
    return [*(word for word in command if word not in ("--resume", "--reuse-output")), "--resume"]


def parameters(option: str, texts: Sequence[str]) -> dict[str, int | str]:
    """Return submitit's parameters from "timeout_min=720", "slurm_partition=long", ...

    Raises:
        InputError: naming the command's option and the text that is not key=value.
    """
    pairs = [text.partition("=") for text in texts]
    if wrong := next(("".join(pair) for pair in pairs if not pair[1]), None):
        raise InputError(f"{option} {wrong}: write key=value, e.g. timeout_min=720")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def submit(command: Sequence[str], folder: Path, cluster: str, parameters: dict) -> submitit.Job:
    """Submit a training run and return submitit's job.

    Args:
        command: path of ``train_net.py`` and its arguments.
        folder: for submitit's files and logs.
        cluster: "slurm", or "local" for processes of this machine.
        parameters: of ``AutoExecutor.update_parameters``: ``timeout_min``, ``gpus_per_node``,
            ``slurm_partition``, ...

    Raises:
        InputError: see :func:`open_executor`.
    """
    executor = open_executor(f"--cluster {cluster}", folder, cluster, parameters)
    return executor.submit(TrainingJob(command))


def open_executor(
    option: str, folder: Path, cluster: str, parameters: dict
) -> submitit.AutoExecutor:
    """Return submitit's executor; ``option`` is the command's, for the error.

    Raises:
        InputError: submitit is missing, there is no Slurm, or a parameter is unknown.
    """
    if AutoExecutor is None:
        raise InputError(f"{option} needs submitit: pip install submitit")
    try:
        executor = AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{option}: submitit refuses ({reason})") from error
    return executor
