"""A run with augmentation in windows that goes on from its best weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detrex.train.best import BestCheckpoint
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


def test_later_it_falls_back_whenever_a_score_is_no_better(tmp_path, monkeypatch):
    scores = {
        0: 0.0,
        2: 1.0,
        4: 3.0,
        6: 2.0,
        8: 2.5,
        10: 1.0,
        12: 1.0,
        14: 0.5,
        16: 0.7,
        18: 0.6,
        20: 0.1,
    }
    trainer = SimpleNamespace(max_iter=20, evaluate=True, options=SimpleNamespace(eval_period=2))
    checkpoints = SimpleNamespace(
        trainer=trainer, folder=tmp_path, metadata={}, save=lambda *args, **options: None
    )

    def loads(first: int) -> list[int]:
        """Iterations before which a run that starts at ``first`` loads the best weights."""
        best, loaded = BestCheckpoint(checkpoints, "bbox/AP", first > 0, reload=6), []
        monkeypatch.setattr(best, "_load", lambda: loaded.append(trainer.iter))
        for trainer.iter in range(first, 21):
            done = trainer.iter - trainer.iter % 2  # the last evaluation
            latest = {"bbox/AP": (scores[done], done)}
            best.keep(SimpleNamespace(latest=lambda latest=latest: latest))
        return loaded

    # 2.5 is below 3; 1.0 is the first since, then no better; 0.6 is below 0.7; 20 is the end.
    assert loads(0) == [6, 8, 12, 18]
    lines = [{"iteration": i, "bbox/AP": scores[i]} for i in range(2, 20, 2)]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    assert loads(8) == [8, 12, 18] and loads(16) == [18]


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
