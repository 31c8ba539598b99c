"""What runs make of the data sets, the loaders and the evaluator that a config names."""

import json

import pytest

from detrex.utils.errors import InputError
from tests.engine.runs import TinyRuns

EMA = "train.model_ema.enabled=true"


@pytest.mark.parametrize("without", ["data", "evaluator"])
def test_a_run_without_validation_is_not_evaluated(tmp_path, tiny_data, without):
    data = tiny_data[:2] if without == "data" else [*tiny_data, "dataloader.evaluator=null"]
    runs = TinyRuns(tmp_path, data)
    runs("a", "train.eval_period=3", EMA)
    folder = tmp_path / "a"
    lines = [json.loads(line) for line in (folder / "metrics.json").open()]
    assert lines[-1]["iteration"] == 7 and not any("bbox/AP" in line for line in lines)
    assert not (folder / "best.json").exists() and not (folder / "model_best.pth").exists()
    assert (folder / "log.txt").read_text().count("nothing is evaluated") == 1
    runs("a", "train.max_iter=10", "--resume")
    assert runs.checkpoint("a")["iteration"] == 9
    runs("again", "--config-file", str(folder / "config.yaml"))
    with pytest.raises(InputError, match=r"dataloader\.(dataset\.val\.|evaluator)"):
        runs("a", "--eval-only", f"train.init_checkpoint={folder / 'model_final.pth'}")


def test_a_run_without_an_evaluator_does_not_look_for_validation_data(tmp_path, tiny_data):
    data = [*tiny_data, "dataloader.dataset.val.json=absent.json"]
    TinyRuns(tmp_path, data)("a", "dataloader.evaluator=null")


def test_training_needs_training_data(tmp_path, tiny_data):
    with pytest.raises(InputError, match=r"dataloader\.dataset\.train\.\{json,images\} are not"):
        TinyRuns(tmp_path, tiny_data[2:])("a")


@pytest.mark.parametrize(
    "option, message",
    [
        ("dataloader.evaluator.backend=fastest", "unknown evaluator 'fastest'"),
        ("dataloader.evaluator.max_dets=10", "max_dets must be more than 10, got 10"),
        ("dataloader.evaluator.max_dets=all", "max_dets must be more than 10, got 'all'"),
        ("dataloader.evaluator.diagnose={assign: somehow}", "assign"),
        ("dataloader.test.mapper.image_backend=cv2", "image_backend='cv2' is unknown"),
    ],
)
def test_an_evaluation_that_cannot_be_made_ends_a_run_before_it_starts(tiny_run, option, message):
    with pytest.raises(InputError, match=message):
        tiny_run("a", option)
    assert not (tiny_run.folder / "a" / "run.json").exists()


def test_ground_truth_is_not_read_before_it_is_needed(tiny_run, monkeypatch):
    read = []
    monkeypatch.setattr(
        "detrex.evaluation.alignment.evaluator.load_ground_truth", lambda path: read.append(path)
    )
    with pytest.raises(InputError, match="train.accumulation_steps=3"):
        tiny_run("a", "dataloader.evaluator.diagnose=true", "train.accumulation_steps=3")
    assert not read
