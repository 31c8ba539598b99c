"""Real faults in real processes: kill, stop signals, damaged files."""

import json
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detrex.train.failures import describe_failure
from detrex.train.nan_guard import NonFiniteLoss
from detrex.train.preemption import PREEMPTED
from detrex.utils.errors import InputError
from tests.train import processes
from tests.train.processes import OPTIONS
from tests.train.runs import TinyRuns, assert_equal


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_data):
    """Has a run "whole" that nobody disturbs, and what all print in "log"."""
    runs = TinyRuns(tmp_path_factory.mktemp("faults"), tiny_data)
    runs("whole", *OPTIONS)
    return runs


def start(runs, name, *options):
    return processes.start(runs.args(name, *OPTIONS, *options), runs.folder / "log")


def finish_and_compare(runs, name):
    assert processes.finish(start(runs, name, "--resume")) == 0
    processes.assert_same_run(runs.folder / name, runs.folder / "whole")


def test_killed_in_a_step_and_in_a_checkpoint_a_run_ends_like_the_undisturbed_one(runs):
    folder = runs.folder / "killed"
    for moment in (
        lambda: processes.iterations(folder) >= 8,
        lambda: processes.iterations(folder) >= 13 and any(folder.glob(".model_*.pth.*")),
    ):
        process = start(runs, "killed", "--resume")
        assert processes.wait_until(moment, process)
        process.kill()
        process.join()
    assert not (folder / "model_final.pth").exists()
    finish_and_compare(runs, "killed")
    assert not any(folder.glob(".model_*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_asked_to_stop_a_run_saves_the_step_it_is_in(runs, number):
    name = f"stopped{number}"
    process = start(runs, name, "train.checkpointer.period=0")
    assert processes.wait_until(lambda: processes.iterations(runs.folder / name) >= 2, process)
    os.kill(process.pid, number)
    assert processes.finish(process) == PREEMPTED
    assert [p.name for p in (runs.folder / name).glob("*.pth")] == ["model_latest.pth"]
    finish_and_compare(runs, name)


@pytest.mark.parametrize("signals, moment", [(1, "evaluation"), (2, "5")])
def test_stuck_in_an_evaluation_one_signal_ends_a_run_and_in_a_step_two(runs, signals, moment):
    name, log = f"stuck_in_{moment}", runs.folder / f"log_{moment}"
    failure = [f"model.fail_at={moment}", "model.fail_how=hang"]
    process = processes.start(runs.args(name, *OPTIONS, *failure), log)
    assert processes.wait_until(lambda: log.exists() and "hangs" in log.read_text(), process)
    os.kill(process.pid, signal.SIGTERM)
    if signals == 2:
        time.sleep(3.5)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    assert processes.finish(process) == PREEMPTED
    assert time.monotonic() - began < 3
    finish_and_compare(runs, name)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["model"]["backbone.weight"]
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def spoil(change):
    def damage(path):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


ODD = [
    lambda content: content["model"]["norm.weight"].fill_(float("nan")),
    lambda content: content["trainer"]["optimizer"]["state"][0]["exp_avg"].fill_(float("nan")),
    lambda content: content.update(iteration="7"),
    lambda content: content.update(iteration=True),
    lambda content: content.update(trainer=[]),
    lambda content: content.update(metadata=5),
    lambda content: content.pop("model"),
]


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, lambda path: path.unlink(), *map(spoil, ODD)]
)
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tiny_run, damage):
    tiny_run("whole", "train.checkpointer.period=2")
    tiny_run("broken", "train.checkpointer.period=2")
    folder = tiny_run.folder / "broken"
    path = folder / "model_final.pth"
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    tiny_run("broken", "train.checkpointer.period=2", "--resume")
    set_aside = folder / "model_final.pth.damaged"
    assert (set_aside.read_bytes() if set_aside.exists() else None) == damaged
    lines = (folder / "log.txt").read_text().splitlines()
    (warning,) = [line for line in lines if "trying the one before" in line]
    assert "WARNING" in warning and str(folder / "model_final.pth") in warning
    assert_equal(tiny_run.checkpoint("broken")["model"], tiny_run.checkpoint("whole")["model"])
    assert processes.metrics(folder) == processes.metrics(tiny_run.folder / "whole")


def test_no_sound_checkpoint_is_one_error_and_changes_nothing(tiny_run):
    tiny_run("a", "train.checkpointer.period=4")
    folder = tiny_run.folder / "a"
    for path in folder.glob("*.pth"):
        flip_a_bit(path)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() if p.suffix != ".txt"}
    with pytest.raises(InputError, match="none of its 2 checkpoints is sound"):
        tiny_run("a", "--resume")
    assert before.items() <= {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}.items()
    with pytest.raises(InputError, match="model_final.pth is damaged: .* checksum"):
        tiny_run("a", "--eval-only", f"train.init_checkpoint={folder / 'model_final.pth'}")


def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(tiny_run, monkeypatch):
    tiny_run("a", "train.checkpointer.period=4")
    folder = tiny_run.folder / "a"
    files = {path: path.read_bytes() for path in folder.glob("*.pth")}
    path_open, access = Path.open, os.access
    last = folder / "model_final.pth"

    def refuse(path, *args, **kwargs):
        if path == last:
            raise PermissionError(13, "Permission denied", str(path))
        return path_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: path != last and access(path, mode))
    with pytest.raises(InputError, match="model_final.pth cannot be opened: Permission denied"):
        tiny_run("a", "--resume")
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in folder.glob("*.pth*")} == files


def raised(second, first):
    """An error during whose handling another one was raised."""
    try:
        try:
            raise first
        finally:
            raise second
    except BaseException as error:
        return error


def full():
    return OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "second, first, expected",
    [
        (full(), NonFiniteLoss("loss is nan"), (1, "error: loss is nan; then: No space left")),
        (
            full(),
            InputError("a.json: bad"),
            (2, "error: a.json: bad; then: No space left on device"),
        ),
        (
            PermissionError(13, "Permission denied", "/x"),
            NonFiniteLoss("loss is nan"),
            (1, "error: loss is nan; then: Permission denied"),
        ),
        (
            RuntimeError("writer failed"),
            full(),
            (1, "error: [Errno 28] No space left on device: wh"),
        ),
        (InputError("bad"), KeyError("x"), (2, "error: bad")),
        (TypeError("a bug"), NonFiniteLoss("loss is nan"), (1, "Traceback")),
    ],
)
def test_the_first_failure_is_told_first(second, first, expected):
    code, text = describe_failure(raised(second, first))
    assert code == expected[0] and text.startswith(expected[1])


def test_file_that_cannot_be_written_is_one_line(tiny_run):
    file = tiny_run.folder / "file"
    file.write_text("")
    with pytest.raises(OSError) as unusable:
        tiny_run("file")
    assert describe_failure(unusable.value) == (1, f"error: [Errno 17] File exists: '{file}'")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # as a disk that is full
    try:
        with pytest.raises(RuntimeError) as full:
            tiny_run("a", "model.width=50000", "train.max_iter=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    code, text = describe_failure(full.value)
    assert code == 1 and text.startswith("error: [Errno 27] File too large: ")


def test_reused_folder_does_not_mix_runs(tiny_run):
    tiny_run("a", "train.checkpointer.period=1", "train.max_iter=9")
    options = ["train.checkpointer.period=1", "train.checkpointer.max_to_keep=2", "train.seed=8"]
    tiny_run("a", *options, "--reuse-output")
    tiny_run("b", *options)
    names = [sorted(p.name for p in (tiny_run.folder / n).glob("*.pth")) for n in "ab"]
    assert names[0] == names[1]
    assert processes.metrics(tiny_run.folder / "a") == processes.metrics(tiny_run.folder / "b")
    assert (tiny_run.folder / "a/replaced/1/model_0000007.pth").exists()


def evaluations(folder):
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["iteration"] for line in lines if "bbox/AP" in line]


def tensorboard(folder, name):
    events = EventAccumulator(str(folder)).Reload()
    return [event.step for event in events.Scalars(name)]


def test_evaluations_and_curves_of_a_resumed_run_are_there_once(tiny_run):
    options = ["train.eval_period=3", "train.log_period=3"]
    folder = tiny_run.folder / "a"
    with pytest.raises(NonFiniteLoss):  # behind the evaluation, before the next checkpoint
        tiny_run("a", *options, "model.fail_at=5", "train.checkpointer.period=0")
    tiny_run("a", *options, "--resume")
    assert evaluations(folder) == [3, 6, 8]
    assert tensorboard(folder, "bbox/AP") == [3, 6, 8]
    tiny_run("a", *options, "--resume")
    assert evaluations(folder) == [3, 6, 8]
    tiny_run("a", *options, "train.max_iter=10", "--resume")
    assert evaluations(folder) == [3, 6, 8, 9, 10]
    assert tensorboard(folder, "bbox/AP") == [3, 6, 8, 9, 10]
    assert tensorboard(folder, "total_loss") == [2, 5, 7, 8, 9]
