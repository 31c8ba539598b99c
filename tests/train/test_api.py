"""Runs from Python: ``detrex.train``, ``detrex.evaluate``, ``detrex.check``."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase

import detrex
from detrex.train.preemption import Interruption
from detrex.utils.errors import InputError
from tests.data import layouts
from tests.refusals import refused
from tests.train.runs import CONFIG as RUNS

TINY = "tiny.py"
BASE = f"""from detrex.config import model_config
dataloader, lr_multiplier, model, optimizer, train = model_config({str(RUNS)!r})
model.num_classes = 80  # published, so that the data say how many
"""
OVERRIDES = ["train.max_iter=4", "train.eval_period=2", "dataloader.train.num_workers=0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a data set of three classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / TINY).write_text(BASE)
    layouts.write_yolo(tmp_path / "bugs")
    return tmp_path


def handlers() -> list:
    return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_data_set_is_checked_trained_on_and_scored(folder, capsys):
    before = handlers()
    checked = detrex.check("bugs", model=TINY)
    assert str(checked).startswith("bugs: YOLO layout\ntrain: 3 images")
    assert "<pre>bugs: YOLO layout" in checked._repr_html_() and not capsys.readouterr().out
    config = folder / "output/data/bugs/tiny.py"
    assert checked.config_file.samefile(config)
    config.write_text(config.read_text() + "train.log_period = 1\n")
    run = detrex.train("bugs", model=TINY, epochs=3, overrides=OVERRIDES[1:])
    assert "iter 1/3" in capsys.readouterr().out  # of three images, four at a time
    assert run.folder == Path("output/bugs_tiny") and run.checkpoint.is_file()
    assert [line["iteration"] for line in run.metrics if "total_loss" in line] == [0, 1, 2]
    scores = detrex.evaluate(run.checkpoint)
    assert scores["bbox"].keys() == run.scores["bbox"].keys() >= {"AP", "AP50", "APs"}
    assert scores["bbox"]["AP"] == pytest.approx(run.scores["bbox"]["AP"], nan_ok=True)
    rows = run._repr_html_().split("<tr>")
    assert len(rows) == 4 and rows[2].startswith("<td>2</td>") and rows[3].startswith("<td>3</td>")
    assert handlers() == before


def test_help_shows_the_arguments():
    assert [*inspect.signature(detrex.train).parameters][:3] == ["data", "model", "epochs"]


def test_errors_are_exceptions_of_one_line(folder):
    (folder / "empty").mkdir()
    for call, names in {
        lambda: detrex.check("empty"): ["empty"],
        lambda: detrex.check("bugs", "r5O"): ["'r5O'", "r50"],
        lambda: detrex.train("nowhere", TINY): ["nowhere"],
        lambda: detrex.train(TINY, num_gpus=0): ["0"],
        lambda: detrex.train(TINY, overrides=["train.max_itre=1"]): ["train.max_iter"],
        lambda: detrex.evaluate("gone.pth"): ["gone.pth"],
    }.items():
        with refused(*names):
            call()


def test_a_second_run_asks_what_to_do_with_the_first(folder):
    detrex.check("bugs", TINY)
    run = detrex.train("bugs", TINY, overrides=OVERRIDES)
    with refused(str(run.folder), "--resume", "--reuse-output"):
        detrex.train("bugs", TINY, overrides=OVERRIDES)
    first = torch.load(run.checkpoint)["model"]["norm.weight"]
    detrex.train("bugs", TINY, overrides=["train.max_iter=6", *OVERRIDES[1:]], resume=True)
    assert run.metrics[-1]["iteration"] == 6
    assert not torch.equal(torch.load(run.checkpoint)["model"]["norm.weight"], first)
    detrex.train("bugs", TINY, overrides=OVERRIDES, reuse_output=True)
    assert (run.folder / "replaced/1/metrics.json").is_file() and run.metrics[-1]["iteration"] == 4
    assert (run.folder / "log.txt").read_text().count("iter 6/6") == 1


def test_the_logs_of_two_runs_are_apart(folder):
    config = detrex.check("bugs", TINY).config_file
    logs = []
    for seed in (1, 2):
        seeded = [f"train.seed={seed}", *OVERRIDES]
        run = detrex.train(config, output_dir=folder / f"run{seed}", overrides=seeded)
        call = json.loads((run.folder / "run.json").read_text())["command"]
        assert call.startswith(f"detrex.train('{config}', num_gpus=1, resume=False") and (
            f"'train.seed={seed}'" in call
        )
        assert compile(call, "call", "eval")
        logs.append((run.folder / "log.txt").read_text())
    assert "seed 1" in logs[0] and "seed 2" not in logs[0]
    assert "seed 2" in logs[1] and "seed 1" not in logs[1]


def test_ctrl_c_saves_the_step_and_resume_goes_on(folder):
    config = detrex.check("bugs", TINY).config_file
    config.write_text(
        config.read_text()
        + "from tests.train.test_api import Press\ntrain.hooks = [dict(_target_=Press)]\n"
    )
    with pytest.raises(KeyboardInterrupt):
        detrex.train("bugs", TINY, overrides=OVERRIDES)
    folder = Path("output/bugs_tiny")
    assert torch.load(folder / "model_latest.pth")["iteration"] == 0
    run = detrex.train("bugs", TINY, overrides=[*OVERRIDES, "train.hooks=[]"], resume=True)
    assert run.metrics[-1]["iteration"] == 4


class Press(HookBase):
    """Ctrl-C in the first step."""

    def before_step(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_where_nothing_is_to_be_saved_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        interruption.begin_step()
        os.kill(os.getpid(), signal.SIGINT)
        interruption.end_step()
        assert interruption.stopping
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_cannot_listen_for_ctrl_c(folder):
    raised = []

    def train() -> None:
        try:
            detrex.train(TINY)
        except InputError as error:
            raised.append(str(error))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert "main thread" in raised[0]


def test_two_processes(folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config, before = detrex.check("bugs", TINY).config_file, handlers()
    run = detrex.train(config, num_gpus=2, overrides=OVERRIDES)
    assert run.metrics[-1]["iteration"] == 4 and (run.folder / "log.txt.rank1").is_file()
    assert handlers() == before


@pytest.mark.parametrize(("status", "error"), [(2, InputError), (1, RuntimeError)])
def test_what_a_process_says_is_raised(folder, monkeypatch, status, error):
    def launch(*_: object) -> None:
        print("error: no data", file=sys.stderr)
        raise SystemExit(status)

    monkeypatch.setattr("detrex.train.api.launch", launch)
    with pytest.raises(error, match="^no data$"):
        detrex.train(TINY, num_gpus=2)


@pytest.mark.parametrize(
    ("target", "name", "value", "message"),
    [
        (multiprocessing.current_process(), "_inheriting", True, "__main__"),
        (sys.modules["__main__"], "__file__", "<stdin>", "<stdin>"),
    ],
    ids=["unguarded", "stdin"],
)
def test_where_no_process_can_start(folder, monkeypatch, target, name, value, message):
    monkeypatch.setattr(target, name, value, raising=False)
    with refused("several processes", message):
        detrex.train(TINY, num_gpus=2)
