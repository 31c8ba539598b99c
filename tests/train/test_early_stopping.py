"""A run ends when its score stands still, where a run that was interrupted ends, too."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from detrex.train.best import EarlyStopping
from detrex.utils.errors import InputError
from tests.refusals import refused
from tests.train.runs import assert_equal


def ends_at(values, metric="bbox/AP", patience=20, min_gain=0.0, state=None, start=1):
    """The iteration after which a run ends that is evaluated every 10, with these scores."""
    stopping = EarlyStopping(metric, patience, min_gain)
    if state is not None:
        stopping.load_state_dict(state)
    for i, value in enumerate(values, start):
        latest = {} if value is None else {metric: (value, 10 * i)}
        storage = SimpleNamespace(latest=lambda latest=latest: latest)
        stopping.trainer = SimpleNamespace(iter=10 * i, storage=storage)
        if stopping.is_over():
            return 10 * i
    return stopping.state_dict()


@pytest.mark.parametrize(
    ("values", "options", "end"),
    [
        ([1, 2, 1, 2, 3], {}, 40),
        ([1, 2, 1, 2.5, 3, 3, 3], {}, 70),
        ([3, 2, 1, 2, 3], {"metric": "calibration/D-ECE"}, 50),
        ([3, 2, 1, 2, 3], {"metric": "ema_calibration/D-ECE"}, 50),
        ([3, 2, 1, 2, 3], {"metric": "total_loss"}, 50),
        ([1, 1.4, 1.8, 2.2], {"min_gain": 0.5}, None),
        ([1, 1.4, 1.49, 2.2], {"min_gain": 0.5}, 30),
        ([float("nan"), float("nan")], {}, 20),
        ([1, 1, 1], {"patience": 30}, None),
    ],
)
def test_when_a_run_is_over(values, options, end):
    result = ends_at(values, **options)
    assert result == end if end else isinstance(result, dict)


@pytest.mark.parametrize("interrupted", [1, 2, 3, 4])
def test_the_state_is_enough_to_end_at_the_same_place(interrupted):
    values = [1, 3, 2, 2.5, 2.7, 3]
    state = json.loads(json.dumps(ends_at(values[:interrupted], patience=30)))
    assert ends_at(values, patience=30) == 50
    assert ends_at(values[interrupted:], patience=30, state=state, start=interrupted + 1) == 50


def test_the_newest_value_of_a_loss_is_part_of_the_state():
    state = ends_at([3.0, 2.0], "total_loss")
    assert ends_at([None, 1.0, None, None], "total_loss", state=state, start=3) == 60
    assert ends_at([None, None], "total_loss", state=state, start=3) == 40
    with refused("train.early_stopping.metric=total_los", error=InputError):
        ends_at([None], "total_los")


STOPS = ("train.eval_period=2", "train.checkpointer.period=4", "train.max_iter=12")
NEVER_BETTER = "train.early_stopping.min_gain=1000"


def test_an_interrupted_run_ends_where_the_whole_one_does(tiny_run):
    stops = (*STOPS, NEVER_BETTER, "train.early_stopping.patience=4")
    tiny_run("whole", *stops)
    tiny_run("parts", *stops, "train.max_iter=4")
    tiny_run("parts", *stops, "--resume")
    folders = tiny_run.folder / "whole", tiny_run.folder / "parts"
    whole, parts = (tiny_run.checkpoint(folder.name) for folder in folders)
    assert whole["iteration"] == parts["iteration"] == 5  # best after 2, over after 6
    assert_equal(parts["model"], whole["model"])
    assert_equal(parts["trainer"], whole["trainer"])
    scores = [
        [line["iteration"] for line in map(json.loads, (folder / "metrics.json").open())
         if "bbox/AP" in line]
        for folder in folders
    ]  # fmt: skip
    assert scores[0] == scores[1] == [2, 4, 6]
    # Resumed with its settings it is over at once; with more patience it goes on.
    tiny_run("parts", *stops, "--resume")
    assert tiny_run.checkpoint("parts")["iteration"] == 5
    tiny_run("parts", *stops, "--resume", "train.early_stopping.patience=1ep")
    assert tiny_run.checkpoint("parts")["iteration"] == 5
    tiny_run("parts", *stops, "--resume", "train.early_stopping.patience=8")
    assert tiny_run.checkpoint("parts")["iteration"] == 9


def test_a_loss_ends_a_run_of_averaged_weights(tiny_run):
    options = "train.early_stopping.metric=total_loss", "train.early_stopping.patience=0.25"
    tiny_run("a", *STOPS, NEVER_BETTER, *options, "train.model_ema.enabled=True")
    assert tiny_run.checkpoint("a")["iteration"] == 5  # a quarter of 12 is 3 iterations


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("patience=soon", ["train.early_stopping.patience=soon"]),
        ("min_gain=-1", ["train.early_stopping.min_gain=-1"]),
        ("patience=2 metric=bbox/APP", ["train.early_stopping.metric=bbox/APP", "bbox/AP"]),
        ("patience=2 metric=calibration/F1", ["metric=calibration/F1", "evaluator.diagnose=True"]),
        ("patience=2 metric=los_class", ["train.early_stopping.metric=los_class", "loss_class"]),
    ],
)
def test_what_is_no_setting_is_one_line(tiny_run, options, names):
    settings = [f"train.early_stopping.{option}" for option in options.split()]
    with refused(*names):
        tiny_run("a", *STOPS, *settings)
