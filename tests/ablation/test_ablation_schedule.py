"""Processes of an ablation: devices, locks, failures, interrupts; whole runs of a tiny model."""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path

import pytest

from detrex.ablation import schedule
from detrex.ablation.jobs import Job, make_jobs
from detrex.ablation.plan import Plan, Variant
from detrex.ablation.schedule import CONSOLE, missing, run_here, run_on_slurm
from detrex.utils.errors import InputError
from tests.train.tiny import write_data

TINY = str(Path(__file__).parents[1] / "train" / "tiny_config.py")


def python(folder: Path, code: str) -> Job:
    """A job that runs some code instead of a training."""
    return Job(Variant(folder.name, "a.py"), 0, folder, (sys.executable, "-c", code))


def test_devices_go_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,9")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    groups = schedule.device_groups(2)
    assert groups == ["4,5", "6,7"] and schedule.device_groups(8) == []
    show = "import os, time; e = os.environ; time.sleep(.5)\n"
    show += "print(e['CUDA_VISIBLE_DEVICES'], e['OMP_NUM_THREADS'])"
    jobs = [python(tmp_path / name, show) for name in "abc"]
    monkeypatch.setattr(schedule.os, "cpu_count", lambda: 6)
    failed = run_here(jobs, 3, groups, lambda line: None)
    assert [(job.folder / CONSOLE).read_text() for job in jobs] == ["4,5 2\n", "6,7 2\n", "4,5 2\n"]
    assert set(failed.values()) == {"it ended without final scores"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; print('error: no data'); print('bye'); sys.exit(2)", "error: no data"),
        ("print('KeyErrors are bad'); raise KeyError('x')", "KeyError: 'x'"),
        ("import os; os.kill(os.getpid(), 9)", "it was ended by signal 9"),
        ("raise SystemExit(3)", "it ended with status 3"),
    ],
)
def test_last_error_line_is_reported(tmp_path: Path, code: str, message: str) -> None:
    lines: list[str] = []
    job = python(tmp_path / "a", code)
    assert run_here([job], 1, [], lines.append) == {job: message}
    assert lines[-1] == f"FAILED a, seed 0: {message}"


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    job = python(tmp_path / "a", "import time; print('mine', flush=True); time.sleep(60)")
    process = schedule.start(job, {})
    try:
        assert "is in use" in run_here([job], 1, [], lambda line: None)[job]
    finally:
        schedule.end([process])
    assert process.returncode == -signal.SIGTERM
    assert "in use" not in run_here([python(job.folder, "")], 1, [], lambda line: None).values()


def test_what_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_GRACE", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    job = python(tmp_path / "a", deaf + "time.sleep(60)")
    process = schedule.start(job, {})
    while not (job.folder / CONSOLE).read_text():
        time.sleep(0.02)
    schedule.end([process])
    assert process.returncode == -signal.SIGKILL


def test_slurm_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--slurm: submitit refuses .*nonsense"):
        run_on_slurm([], tmp_path, {"nonsense": 1}, print, "local")
    with pytest.raises(InputError, match="--slurm: submitit refuses"):
        run_on_slurm([], tmp_path, {}, print)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """Makes jobs of the tiny detector: overrides of each variant to jobs."""
    folder = tmp_path_factory.mktemp("ablation")
    data = tuple(write_data(folder / "data"))

    def make(*variants: str) -> list[Job]:
        found = tuple(Variant(text, TINY, (*data, text)) for text in variants)
        return make_jobs(Plan("tiny", found), [0], 1, folder / "runs")

    return make


def test_a_finished_run_shows_coco_scores_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"alignment/AP_layer1": 1.0, "AP": 2.0, "AP50": 3.0, "calibration/D-ECE": 4.0}
    monkeypatch.setattr(Job, "scores", lambda job: scores)
    lines: list[str] = []
    schedule.conclude(python(tmp_path / "a", ""), "", lines.append)
    assert lines == ["finished a, seed 0: AP 2.0, AP50 3.0, alignment/AP_layer1 1.0"]


def test_a_failure_does_not_stop_the_others_and_nothing_runs_twice(tiny) -> None:
    bad, good, same = jobs = tiny("model.fail_at=6", "model.width=4", "model={width:4}")
    assert good.folder == same.folder and missing(jobs) == [bad, good]
    lines: list[str] = []
    failed = run_here(missing(jobs), 2, [], lines.append)
    assert list(failed) == [bad] and "loss_class" in failed[bad]
    assert any(line.startswith("finished model.width=4, seed 0: AP ") for line in lines)
    assert same.scores()["AP"] == good.scores()["AP"] >= 0
    assert missing(jobs) == [bad] and missing(tiny("model.width=4")) == []


def test_an_interrupted_run_continues(
    tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted here once it has a checkpoint; continued as a Slurm job, on this machine."""
    (job,) = tiny("train={max_iter:400,checkpointer:{period:100},log_period:100}")

    def interrupt(seconds: float) -> None:
        if (job.folder / "last_checkpoint").exists():
            raise KeyboardInterrupt
        pause(0.01)

    pause = time.sleep
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(schedule.time, "sleep", interrupt)
        run_here([job], 1, [], lambda line: None)
    assert missing([job]) == [job]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    options = {"timeout_min": 5}
    assert run_on_slurm([job], tmp_path, options, lambda line: None, "local") == {}
    assert missing([job]) == []
    assert re.search(r"/model_\w+\.pth: load", (job.folder / CONSOLE).read_text())
