"""A run with augmentation in windows that goes on from its best weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detrex.train.nan_guard import NonFiniteLoss
from tests.refusals import refused
from tests.train.runs import assert_equal

CONFIG = ["--config-file", str(Path(__file__).parent / "windows_config.py")]


def test_a_resumed_run_equals_the_whole_one_in_windows_and_behind_the_best(tiny_run):
    tiny_run("whole", *CONFIG)
    with pytest.raises(NonFiniteLoss):
        tiny_run("broken", *CONFIG, "model.fail_at=5")
    tiny_run("broken", *CONFIG, "--resume")
    tiny_run("workers", *CONFIG, "dataloader.train.num_workers=1")
    whole = tiny_run.checkpoint("whole")
    for name in ("broken", "workers"):
        for part in ("model", "trainer", "ema_state", "iteration"):
            assert_equal(tiny_run.checkpoint(name)[part], whole[part])


def test_the_end_goes_on_from_the_best_weights(tiny_run):
    """Learning rates are 0 in the last two steps, so the weights stay those that were loaded."""
    tiny_run("a", *CONFIG)
    folder = tiny_run.folder / "a"
    best = json.loads((folder / "best.json").read_text())
    final, saved = tiny_run.checkpoint("a")["model"], tiny_run.checkpoint("a", "model_best.pth")
    before = tiny_run.checkpoint("a", "model_0000005.pth")["model"]
    assert best["iteration"] < 6 and saved["iteration"] == best["iteration"]
    names = [name for name, tensor in final.items() if tensor.is_floating_point()]
    assert all(torch.equal(final[name], saved["model"][name]) for name in names)
    assert not any(torch.equal(final[name], before[name]) for name in names)


def test_without_a_best_checkpoint_the_run_goes_on(tiny_run, caplog):
    tiny_run("a", *CONFIG, "train.eval_period=0")
    assert "train.reload_best: no evaluation yet" in caplog.text


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("dataloader.train.mapper.windows.1.start=3", ["windows.1", "start=3", "4"]),
        ("dataloader.train.mapper.windows.0.start=two", ["windows.0.start=two"]),
        ("train.max_iter=3", ["windows.0", "train.max_iter=3"]),
        ("train.reload_best=two", ["train.reload_best=two"]),
    ],
)
def test_lengths_of_windows_that_cannot_be_are_named(tiny_run, option, expected):
    with refused(*expected):
        tiny_run("a", *CONFIG, option)
