"""A real job of submitit's local executor, preempted as Slurm would."""

import os
import signal
import time
from pathlib import Path

import pytest

from detrex.train.slurm import TrainingJob, submit
from detrex.utils.errors import InputError
from tests.train import processes
from tests.train.test_launch import TOOL

OPTIONS = [o for o in processes.OPTIONS if "max_iter" not in o] + ["train.max_iter=40"]
SLOW = "train.checkpointer.period=1"


def test_preempted_job_is_requeued_and_ends_like_the_undisturbed_run(tiny_run):
    folder = tiny_run.folder / "job"
    command = [TOOL, *tiny_run.args("job", *OPTIONS, SLOW)]
    job = submit(command, tiny_run.folder / "submitit", "local", {"timeout_min": 5})
    deadline = time.monotonic() + 120
    while processes.iterations(folder) < 2:
        assert time.monotonic() < deadline and not job.done(), job.stderr()
        time.sleep(0.01)
    children = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text()
    os.kill(int(children), signal.SIGUSR2)  # the task, as Slurm does; not submitit's local keeper
    assert job.result() == 0
    assert "Requeued" in job.stdout() + job.stderr()
    tiny_run("whole", *OPTIONS, SLOW)
    processes.assert_same_run(folder, tiny_run.folder / "whole")


def test_unknown_parameter_is_one_line(tmp_path):
    with pytest.raises(InputError, match="slurm_partitoin"):
        submit([TOOL], tmp_path, "local", {"slurm_partitoin": "gpu"})


def run_command_line(tmp_path, monkeypatch, **environment):
    """Run a job whose script prints its arguments; return it and what it printed."""
    script, printed = tmp_path / "script.py", tmp_path / "printed"
    script.write_text(f"import sys; open({str(printed)!r}, 'w').write(' '.join(sys.argv[1:]))")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job = TrainingJob([str(script), "--reuse-output", "a=1"])
    job()
    return job, printed.read_text()


def test_only_a_requeued_job_resumes(tmp_path, monkeypatch):
    job, first = run_command_line(tmp_path, monkeypatch)
    assert first == "--reuse-output a=1"
    monkeypatch.setattr(job, "_await_end", lambda: None)  # it has ended
    assert job.checkpoint().function.command[1:] == ["a=1", "--resume"]
    _, after_a_failed_node = run_command_line(tmp_path, monkeypatch, SLURM_RESTART_COUNT="1")
    assert after_a_failed_node == "a=1 --resume"
