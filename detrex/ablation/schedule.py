"""Running the jobs of an ablation: here, several at a time, or through Slurm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from detrex.train.folder_lock import try_lock
from detrex.train.slurm import open_executor
from detrex.utils.errors import InputError

from .jobs import Job

CONSOLE = "console.txt"
_GRACE = 30  # seconds that a run has to save its state
_POLL = 0.2  # seconds
Report = Callable[[str], None]


def missing(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that have no final scores yet, one per folder."""
    by_folder = {job.folder: job for job in reversed(jobs) if not job.scores()}
    return [job for job in jobs if by_folder.get(job.folder) is job]


def device_groups(num_gpus: int) -> list[str]:
    """Return ``CUDA_VISIBLE_DEVICES`` of each run that has GPUs of its own; empty without GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return [",".join(ids[i : i + num_gpus]) for i in range(0, len(ids) - num_gpus + 1, num_gpus)]


def run_here(jobs: Sequence[Job], at_once: int, groups: Sequence[str], report: Report) -> dict:
    """Run jobs as processes of this machine and wait for all of them.

    Args:
        jobs: what to run.
        at_once: processes at the same time.
        groups: devices to give them, round robin; see :func:`device_groups`.
        report: takes a line whenever something happens.

    Returns:
        Job -> last error line, of those that failed. An interrupt ends all of them and goes on.
    """
    waiting, failed = deque(jobs), {}
    slots: dict[int, tuple[Job, subprocess.Popen]] = {}
    try:
        while waiting or slots:
            for slot in [s for s in range(at_once) if s not in slots and waiting]:
                job = waiting.popleft()
                try:
                    slots[slot] = job, start(job, _environment(slot, at_once, groups))
                    report(f"started {job.name}: {job.folder}")
                except InputError as error:
                    failed |= conclude(job, str(error), report)
            time.sleep(_POLL)
            for slot in [s for s, (_, process) in slots.items() if process.poll() is not None]:
                job, process = slots.pop(slot)
                failed |= conclude(job, failure(job, process.returncode), report)
    finally:
        end([process for _, process in slots.values()])
    return failed


def run_on_slurm(
    jobs: Sequence[Job], folder: Path, options: dict, report: Report, cluster: str = "slurm"
) -> dict:
    """Run jobs as one Slurm array through submitit and wait for all of them.

    Args:
        jobs: what to run.
        folder: for submitit's files.
        options: of ``submitit.AutoExecutor.update_parameters``, e.g. timeout_min, slurm_partition.
        report: takes a line whenever something happens.
        cluster: "local" runs the same on this machine.

    Returns:
        Job -> last error line, of those that failed. An interrupt cancels all of them and goes on.

    Raises:
        InputError: submitit is missing, there is no Slurm, or an option is unknown.
    """
    submitted = open_executor("--slurm", folder, cluster, options).map_array(run_one, jobs)
    report(f"submitted {len(jobs)} runs as {submitted[0].job_id} and following")
    failed = {}
    try:
        for job, task in zip(jobs, submitted, strict=True):
            error = task.exception()
            text = str(error).strip().splitlines()[-1] if error else task.result()
            failed |= conclude(job, text, report)
    except BaseException:
        for task in submitted:
            task.cancel()
        raise
    return failed


def run_one(job: Job) -> str:
    """Run a job and wait for it; return its last error line, empty if it has its scores."""
    process = start(job, dict(os.environ))
    try:
        return failure(job, process.wait())
    finally:
        end([process])


def _again(job: Job) -> object:
    import submitit

    return submitit.helpers.DelayedSubmission(run_one, job)


# submitit calls it when Slurm preempts the job or its time is over, and queues what it returns.
run_one.checkpoint = _again


def start(job: Job, environment: dict[str, str]) -> subprocess.Popen:
    """Start a job's process; its output goes to ``console.txt`` in its folder.

    The process holds a lock on the folder as long as it lives, whoever started it.

    Raises:
        InputError: another process holds the lock.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "lock").open("w") as lock:
        if not try_lock(lock, inherited=True):
            raise InputError(f"{job.folder} is in use: repeat when that run has ended")
        with (job.folder / CONSOLE).open("w") as console:
            return subprocess.Popen(
                job.command,
                env=environment,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt reaches it through `end` only
                pass_fds=[lock.fileno()],
            )


def failure(job: Job, code: int) -> str:
    """Return why an ended job has no final scores: its last error line; empty if it has them."""
    if code == 0:
        return "" if job.scores() else "it ended without final scores"
    lines = (job.folder / CONSOLE).read_text(encoding="utf-8", errors="replace").split("\n")
    errors = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception|Loss)\b", line)]
    ended = f"it was ended by signal {-code}" if code < 0 else f"it ended with status {code}"
    return errors[-1] if errors else ended


def conclude(job: Job, error: str, report: Report) -> dict[Job, str]:
    """Report how a job ended; return it with its error, if it has one."""
    scores = sorted(job.scores().items(), key=lambda item: "/" in item[0])  # COCO's first
    shown = ", ".join(f"{name} {value:.1f}" for name, value in scores[:3])
    report(f"FAILED {job.name}: {error}" if error else f"finished {job.name}: {shown}")
    return {job: error} if error else {}


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Ask processes and their children to stop; after half a minute, kill those that still run."""
    alive = [process for process in processes if process.poll() is None]
    try:
        for process in alive:
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for process in alive:
            process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after a second interrupt
        for process in alive:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _environment(slot: int, at_once: int, groups: Sequence[str]) -> dict[str, str]:
    """A run's environment: its share of the processors, and its GPUs."""
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    return environment | ({"CUDA_VISIBLE_DEVICES": groups[slot % len(groups)]} if groups else {})
