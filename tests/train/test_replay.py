import math
import runpy
import sys

import pytest
import torch
from detectron2.config import instantiate

from detrex.checkpoint import load_weights
from detrex.config.load import load_config
from detrex.train.nan_guard import NonFiniteLoss
from detrex.train.replay import replay
from tests.train.test_launch import ROOT

OPTIONS = ["model.dropout=0.3", "model.fail_at=5", "train.accumulation_steps=2"]


def replay_run(folder):
    model = instantiate(load_config(str(folder / "config.yaml")).model)
    _, snapshot = load_weights(model, str(folder / "nan_state.pth"), strict=True, finite=False)
    return replay(load_config(str(folder / "config.yaml")), model, snapshot), snapshot


def test_snapshot_repeats_the_losses_bit_for_bit_and_names_the_module(tiny_run):
    with pytest.raises(NonFiniteLoss, match="python tools/replay.py .*nan_state.pth"):
        tiny_run("a", *OPTIONS)
    found, snapshot = replay_run(tiny_run.folder / "a")
    assert found.losses["loss_bbox"] == snapshot["losses"]["loss_bbox"]
    assert math.isnan(found.losses["loss_class"]) and math.isnan(snapshot["losses"]["loss_class"])
    assert (found.module, found.parameters, found.gradients) == ("the model", [], [])


def test_the_first_module_is_the_innermost(tiny_run):
    with pytest.raises(NonFiniteLoss):
        tiny_run("a", *OPTIONS)
    path = tiny_run.folder / "a/nan_state.pth"
    content = torch.load(path, weights_only=True)
    content["model"]["norm.weight"][0] = float("inf")
    torch.save(content, path)
    found, _ = replay_run(tiny_run.folder / "a")
    assert (found.module, found.parameters) == ("norm", ["norm.weight"])


def test_command(tiny_run, monkeypatch, capsys):
    with pytest.raises(NonFiniteLoss):
        tiny_run("a", *OPTIONS)
    tool = str(ROOT / "tools/replay.py")
    monkeypatch.setattr(sys, "argv", [tool, str(tiny_run.folder / "a/nan_state.pth")])
    runpy.run_path(tool, run_name="__main__")
    assert "first output that is not finite: the model" in capsys.readouterr().out
    tiny_run("b")
    monkeypatch.setattr(sys, "argv", [tool, str(tiny_run.folder / "b/model_final.pth")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(tool, run_name="__main__")
    assert "b/model_final.pth is no snapshot" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [tool, "nope.pth"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(tool, run_name="__main__")
    assert capsys.readouterr().err == "error: checkpoint nope.pth not found\n"
