"""A dry run builds everything, says what the run will take, and writes nothing."""

from __future__ import annotations

import datetime
import re

import pytest

from detrex.train import dry_run
from detrex.train.failures import NonFiniteLoss
from detrex.train.trainer import Trainer
from tests.refusals import refused

FIELDS = ["memory", "iteration", "epoch", "evaluation", "run"]


def lines(capsys):
    """Field -> text of the lines that a dry run has printed."""
    texts = re.findall(r"^dry run: (\w+): (.*)$", capsys.readouterr().out, re.MULTILINE)
    return dict(texts)


def content(folder):
    """Of every file but the log, to which this process goes on to write."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "log.txt"}


def test_what_a_run_will_take(tiny_run, capsys, monkeypatch):
    steps, seconds = [], iter([0.5, 0.2, 5.0, 0.3])
    run_step = Trainer.run_step
    monkeypatch.setattr(
        Trainer, "run_step", lambda self: (steps.append(self.iter), run_step(self))[1]
    )
    clock = iter([0.0, 9.0, 10.0, 12.5])  # the second step takes 2.5 s

    class Time:
        perf_counter = staticmethod(lambda: next(clock))

    monkeypatch.setattr(dry_run, "time", Time)
    monkeypatch.setattr(dry_run, "_seconds", lambda trainer, work: (work(), next(seconds))[1])
    before = datetime.datetime.now()
    tiny_run("a", "--dry-run", "train.max_iter=100", "train.eval_period=30")
    assert steps == [0, 1] and not (tiny_run.folder / "a").exists()
    fields = lines(capsys)
    assert list(fields) == FIELDS
    assert float(fields["memory"].split()[0]) > 100
    assert fields["iteration"] == "2.500 s for 4 images"
    assert fields["epoch"] == "0:00:08, 3 iterations"  # 12 images
    assert fields["evaluation"] == "0:00:02, 4 in the run"  # 12 batches of 0.2 s
    # 100 iterations of 2.5 s and 4 evaluations of 2.4 s
    assert fields["run"].startswith("0:04:20, 100 iterations")
    end = datetime.datetime.strptime(fields["run"][-16:], "%Y-%m-%d %H:%M")
    assert abs(end - before - datetime.timedelta(seconds=260)) < datetime.timedelta(seconds=70)


def test_a_run_that_goes_on_is_left_as_it_is(tiny_run, capsys):
    tiny_run("a", "train.max_iter=4")
    files = content(tiny_run.folder / "a")
    tiny_run("a", "--dry-run", "--resume", "train.max_iter=9")
    assert "5 iterations" in lines(capsys)["run"]
    tiny_run("a", "--dry-run", "--reuse-output", "train.max_iter=7", "dataloader.evaluator=null")
    fields = lines(capsys)
    assert "7 iterations" in fields["run"] and "evaluation" not in fields
    assert content(tiny_run.folder / "a") == files


def test_what_a_run_would_refuse(tiny_run):
    tiny_run("a", "train.max_iter=1")
    with refused(str(tiny_run.folder / "a"), "--resume"):
        tiny_run("a", "--dry-run", "train.max_iter=1")
    with refused("--dry-run", "--eval-only"):
        tiny_run("b", "--dry-run", "--eval-only")
    with pytest.raises(NonFiniteLoss):
        tiny_run("b", "--dry-run", "model.fail_at=1")
    assert not (tiny_run.folder / "b").exists()
