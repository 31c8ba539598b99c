"""By which figure the best weights are chosen, and that low is good where it is."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from detrex.evaluation.coco_scores import SCORES
from detrex.evaluation.figures import LOWER_IS_BETTER, check_figure
from detrex.report.runs import read_run
from detrex.train.best import BestCheckpoint
from tests.refusals import refused
from tests.report.fake_runs import alignment, calibration

# Neither is better, high or low; or one of a number that depends on the model.
NEITHER = {"calibration/LRP_threshold", "calibration/F1_threshold", "alignment/unmatched_iou"}
NUMBERED = {f"alignment/{name}" for name in ("AP_layer1", "AP_layer2", "br_recall_2N")}


def test_every_figure_of_an_evaluation_is_in_the_table():
    tasks = {
        "bbox": SCORES,
        "alignment": alignment().scalars(),
        "calibration": calibration().scalars(),
    }
    names = {f"{task}/{name}" for task, names in tasks.items() for name in names}
    assert names == {*LOWER_IS_BETTER, *NEITHER, *NUMBERED}
    for name in NUMBERED:
        check_figure(name, per_class=False, diagnose=True)
    low = ("oLRP", "ECE", "ACE", "LRP", "duplicates", "cost_")
    for name, is_low in LOWER_IS_BETTER.items():
        assert is_low == any(word in name for word in low), name


@pytest.mark.parametrize(
    ("figure", "saved"),
    [
        ("bbox/AP", [0.5, 0.7]),
        ("ema_calibration/F1", [0.5, 0.7]),
        ("calibration/duplicates", [0.5, 0.2]),
        ("ema_calibration/cost_missed", [0.5, 0.2]),
        ("mine/score", [0.5, 0.7]),
    ],
)
def test_the_best_value_is_kept(tmp_path, figure, saved):
    names = []
    trainer = SimpleNamespace(iter=0)
    checkpoints = SimpleNamespace(folder=tmp_path, metadata={}, trainer=trainer)
    checkpoints.save = lambda name, resumable: names.append((name, resumable))
    best, values = BestCheckpoint(checkpoints, figure, resumed=False), []
    for iteration, value in enumerate([0.5, math.nan, 0.5, 0.7, 0.2, 0.4]):
        best.keep(SimpleNamespace(latest=lambda i=iteration, x=value: {figure: (x, i)}))
        if len(names) > len(values):
            values.append(json.loads((tmp_path / "best.json").read_text())["value"])
    assert values == saved and set(names) == {("model_best", False)}


def test_a_run_keeps_the_lowest_calibration_error(tiny_run):
    figure = "calibration/D-ECE"
    options = "dataloader.evaluator.diagnose=True", f"train.best_metric={figure}"
    tiny_run("a", *options, "train.eval_period=2")
    folder = tiny_run.folder / "a"
    best = json.loads((folder / "best.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.json").open()]
    values = {line[figure]: line["iteration"] for line in lines if figure in line}
    assert len(values) > 2 and best["metric"] == figure
    assert (best["value"], best["iteration"]) == min(values.items())
    assert best["iteration"] < max(values.values())  # else the last evaluation is the best
    files = folder / "best"
    origin = json.loads((files / "evaluation.json").read_text())
    assert origin["iteration"] == best["iteration"]
    names = {"coco_instances_results.json", "evaluation.json", "alignment.json", "calibration.json"}
    assert {path.name for path in files.iterdir()} == names
    run = read_run(folder)
    assert run.shown == best["iteration"]
    assert run.detections == files / "coco_instances_results.json"
    assert run.calibration.scalars()["D-ECE"] == pytest.approx(best["value"], abs=1e-5)


def test_another_figure_is_not_compared_with_the_best_so_far(tiny_run):
    ema = "train.model_ema.enabled=True", "dataloader.evaluator.diagnose=True"
    tiny_run("a", *ema, "train.max_iter=4")
    path = tiny_run.folder / "a/best.json"
    assert json.loads(path.read_text())["metric"] == "ema_bbox/AP"
    tiny_run("a", *ema, "train.max_iter=6", "--resume", "train.best_metric=calibration/LaECE0")
    best = json.loads(path.read_text())
    assert (best["metric"], best["iteration"]) == ("ema_calibration/LaECE0", 6)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("calibration/D-ACE", ["train.best_metric=calibration/D-ACE", "calibration/D-ECE"]),
        ("calibration/F1_threshold", ["calibration/F1"]),
        ("AP75", ["bbox/AP75"]),
        ("ema_bbox/AP", ["bbox/AP"]),
        ("calibration/D-ECE", ["calibration/D-ECE", "dataloader.evaluator.diagnose=True"]),
        ("bbox/AP-dark", ["bbox/AP-dark", "dataloader.evaluator.per_class=True"]),
        ("bbox/AP-dork dataloader.evaluator.per_class=True", ["bbox/AP-dork", "bbox/AP-dark"]),
        ("5", ["train.best_metric=5"]),
    ],
)
def test_a_figure_that_is_none_is_named_with_the_nearest(tiny_run, options, names):
    figure, *others = options.split()
    with refused(*names):
        tiny_run("a", f"train.best_metric={figure}", *others, "train.max_iter=1")
