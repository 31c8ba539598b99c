"""Weights & Biases, MLflow and ClearML get what metrics.json has."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from detrex.config import get_config
from detrex.utils import WandbWriter
from detrex.utils.trackers import ClearmlWriter
from tests.refusals import refused


def send(writer):
    """Two iterations; the second call of the first one has nothing new."""
    with EventStorage(5) as storage:
        storage.put_scalar("loss", 2.0)
        writer.write()
        writer.write()
        storage.iter = 6
        storage.put_scalar("bbox/AP-a <b>", 0.5, smoothing_hint=False)
        writer.write()
    writer.close()


def test_wandb_gets_new_scalars_once(monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end")
    )

    def init(**arguments):
        calls.append(arguments)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    writer = WandbWriter(get_config("common/train.py"))
    assert calls.pop()["config"]["max_iter"] == 90000
    send(writer)
    assert calls == [(5, {"loss": 2.0}), (6, {"bbox/AP-a <b>": 0.5}), "end"]


def test_clearml_gets_new_scalars_once(monkeypatch):
    calls = []
    log = SimpleNamespace(report_scalar=lambda *numbers: calls.append(numbers))
    task = SimpleNamespace(
        connect=lambda settings, name: calls.append((name, settings["max_iter"])),
        get_logger=lambda: log,
        close=lambda: calls.append("end"),
    )

    def init(**arguments):
        calls.append(arguments)
        return task

    clearml = SimpleNamespace(Task=SimpleNamespace(init=init))
    monkeypatch.setitem(sys.modules, "clearml", clearml)
    writer = ClearmlWriter(get_config("common/train.py"))
    send(writer)
    assert calls[0]["project_name"] == "detrex" and calls[0]["auto_connect_frameworks"] is False
    assert calls[1:] == [
        ("train", 90000), ("loss", "loss", 2.0, 5), ("bbox", "AP-a <b>", 0.5, 6), "end"
    ]  # fmt: skip


def test_mlflow_has_the_numbers_of_a_run(tiny_run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    options = "train.mlflow.enabled=True", "train.mlflow.params.run_name=birds"
    per_class = "dataloader.evaluator.per_class=True"
    tiny_run("a", *options, per_class, "train.eval_period=4")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert (run.info.run_name, run.info.status) == ("birds", "FINISHED")
    assert run.data.params["max_iter"] == "8"
    lines = [json.loads(line) for line in (tiny_run.folder / "a/metrics.json").open()]
    for name in ("total_loss", "bbox/AP", "bbox/AP-dark"):
        expected = [(line["iteration"], line[name]) for line in lines if name in line]
        history = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in history] == expected
        assert len(expected) > 1


@pytest.mark.parametrize("name", ["wandb", "mlflow", "clearml"])
def test_a_tracker_that_is_missing_or_fails(name, tiny_run, monkeypatch, caplog):
    enabled = f"train.{name}.enabled=True"
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with refused(f"train.{name}.enabled", f"pip install '{name}'"):
        tiny_run("a", enabled)
    monkeypatch.setattr("importlib.util.find_spec", lambda module: True)

    def fail(*arguments, **options):
        raise ConnectionError("no route\nto host")

    broken = SimpleNamespace(init=fail, start_run=fail, Task=SimpleNamespace(init=fail))
    monkeypatch.setitem(sys.modules, name, broken)
    with refused(f"train.{name}", "ConnectionError", "no route"):
        tiny_run("b", enabled)


def test_a_server_that_goes_away_does_not_end_the_run(monkeypatch, caplog):
    def fail(*arguments, **options):
        raise ConnectionError("gone")

    run = SimpleNamespace(log=fail, finish=fail)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: run))
    writer = WandbWriter(get_config("common/train.py"))
    with caplog.at_level(logging.WARNING):
        send(writer)
    assert [r.getMessage().startswith("train.wandb: gone") for r in caplog.records] == [True] * 3
