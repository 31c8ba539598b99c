import dataclasses
import json
import os
import runpy
import sys

import numpy as np
import pytest

from detrex.evaluation.coco_json import load_ground_truth
from detrex.evaluation.origin import write_origin
from detrex.report import calibration_figures, compare, write_report
from detrex.report.figures import thinned
from detrex.report.hardest import hardest_images, judge
from detrex.report.page import read_evaluated
from detrex.report.runs import read_run
from detrex.utils.errors import InputError
from tests.models import ROOT
from tests.refusals import refused
from tests.report.fake_runs import (
    CLASSES,
    alignment,
    calibration,
    detection,
    write_data,
    write_run,
)

GOOD = [
    detection(0, 3, [10, 10, 20, 20], 0.9),
    detection(1, 7, [0, 0, 30, 30], 0.8),
    detection(1, 3, [40, 10, 10, 10], 0.7),
]
BAD = [detection(1, 3, [0, 0, 30, 30], 0.9), detection(1, 3, [41, 10, 10, 10], 0.2)]


@pytest.fixture
def runs(tmp_path):
    write_data(tmp_path / "data")
    folders = (("a", GOOD, 0.1), ("b", BAD, 0.2), ("c", None, 0.1))
    for name, detections, lr in folders:
        write_run(tmp_path / name, tmp_path / "data", detections, lr)
    alignment().save(tmp_path / "a")
    calibration().save(tmp_path / "b")
    return [read_run(tmp_path / name) for name, _, _ in folders]


# --- the numbers ------------------------------------------------------------------------------


def _object(box, category=1, iscrowd=0):
    return {"bbox": box, "category_id": category, "iscrowd": iscrowd}


def test_mistakes_by_hand():
    truth = [_object([0, 0, 10, 10]), _object([5, 0, 10, 10]), _object([50, 50, 10, 10])]
    detections = [
        detection(0, 1, [3, 0, 10, 10], 0.9),  # IoU 7/13 with the first, 8/12 with the second
        detection(0, 1, [4, 0, 10, 10], 0.8),  # IoU 6/14 with the first, 9/11 with the second
        detection(0, 2, [50, 50, 10, 10], 0.95),  # another class
    ]
    verdict = judge(truth, detections)
    assert [d["score"] for d in verdict.detections] == [0.95, 0.9, 0.8]
    # the second object is taken by the more confident box
    assert verdict.kinds == ["classification", "", "duplicate"] and verdict.wrong == 2
    assert verdict.missed == {0, 2} and verdict.mistakes == 4


def test_crowds_are_neither_missed_nor_used_up():
    crowd = [_object([0, 0, 100, 100], iscrowd=1)]
    verdict = judge(crowd, [detection(0, 1, [x, 0, 10, 10], 0.5) for x in (0, 20)])
    assert verdict.mistakes == 0 and judge(crowd, []).mistakes == 0
    assert judge([], [detection(0, 1, [0, 0, 5, 5], 0.5)]).mistakes == 1


def test_hardest_images_come_first(runs):
    truth = load_ground_truth(runs[0].config["dataloader"]["dataset"]["val"]["json"])
    hardest = hardest_images(truth, [GOOD, BAD[:1]], count=5)
    ids = [(image["id"], [v.mistakes for v in verdicts]) for image, _, verdicts in hardest]
    assert ids == [(1, [0, 3]), (0, [0, 1])]  # image 2 has no mistake


def test_only_keys_that_differ_are_shown(runs):
    assert compare.config_rows(runs) == [("optimizer.lr", ["0.1", "0.2", "0.1"])]
    assert compare.config_rows(runs[:1]) == []


def test_scores_and_classes(runs):
    rows = compare.score_rows(runs, ["a", "b", "c"])
    assert [row["scores"]["AP"] for row in rows] == [10.0, 20.0, 10.0]
    best = compare.best_scores(rows)
    assert best["AP"] == 20.0 and best["APl"] is None
    truth = load_ground_truth(runs[0].config["dataloader"]["dataset"]["val"]["json"])
    cat, script = compare.class_rows(truth, [{f"AP-{CLASSES[0]}": 40.0}, {}, {"AP-x": 1.0}])
    assert cat == {"name": CLASSES[0], "objects": 2, "ap": [40.0, None, None]}
    assert script["objects"] == 1


def test_what_is_kept_of_detections(runs):
    evaluated = read_evaluated(runs, ["a", "b", "c"], threshold=0.3)
    assert evaluated.confident == [GOOD, BAD[:1], None]
    assert [scores.get("AP") for scores in evaluated.scores][::2] == [pytest.approx(100), None]


def test_long_curves_are_thinned_to_means():
    x, y = np.arange(1200), np.tile([1.0, 2.0, 3.0, 4.0], 300)
    thin_x, thin_y = thinned(x, y)
    assert thin_x == [1.5 + 4 * i for i in range(300)] and set(thin_y) == {2.5}
    assert thinned(x[:3], y[:3]) == [[0, 1, 2], [1, 2, 3]]


def test_runs_of_one_name_are_told_apart(tmp_path):
    for name in ("x/seed0", "y/seed0", "y/seed1"):
        write_run(tmp_path / name, tmp_path, None)
    runs = [read_run(tmp_path / name) for name in ("x/seed0", "y/seed0", "y/seed1")]
    assert compare.unique_names(runs) == ["x/seed0", "y/seed0", "y/seed1"]
    assert compare.unique_names(runs[1:]) == ["seed0", "seed1"]
    assert compare.unique_names([runs[0], runs[0]]) == ["seed0", "seed0"]


# --- the page ---------------------------------------------------------------------------------


def test_page_of_three_runs(runs, tmp_path):
    notes = write_report(runs, tmp_path / "report.html")
    assert notes == ["c: no detections yet, left out of classes and images"]
    page = (tmp_path / "report.html").read_text()
    assert "alert(1)</script>" not in page and "<b>a</b>" not in page  # everything is escaped
    assert page.count('<image id="photo-') == 2 and "data:image/jpeg;base64," in page
    assert "Does the best box get the best score?" in page and "optimizer.lr" in page
    assert "What is a score worth?" in page and page.count('class="plot" id="figure-') == 7 + 8


def test_numbers_of_the_calibration_are_those_of_the_report(runs, tmp_path):
    report = calibration()
    named = [(1, "b", report)]
    drawn = {figure["title"]: figure for figure in calibration_figures.calibration_figures(named)}
    assert list(drawn)[-1] == "Confusion: b"
    costs = {trace["name"]: trace["y"][0] for trace in drawn["Which errors cost AP?"]["traces"]}
    assert costs["classification"] == report.overall.costs["classification"] > 1
    curve = drawn["Which threshold?"]["traces"][0]
    point = report.overall.operating_points["F1"]
    assert max(curve["y"]) == pytest.approx(point["F1"], abs=0.01)
    assert curve["y"][round(100 * point["score"])] == pytest.approx(point["F1"], abs=0.02)
    matrix = drawn["Confusion: b"]["traces"][0]
    assert matrix["x"] == [*CLASSES, "background"]
    for row, group in zip(matrix["text"], report.classes, strict=False):
        assert sum(row) == group.objects
    rows = calibration_figures.threshold_rows([*named, (2, "c", report)])
    assert [row["name"] for row in rows] == ["all classes", *CLASSES]
    assert rows[1]["cells"][0][0] == report.classes[0].operating_points["F1"]["score"]
    (row,) = calibration_figures.error_rows(named)
    assert row["errors"][0].startswith(f"{report.overall.errors['D-ECE'][0]:.3f} (")


def test_the_page_says_why_the_best_boxes_are_less_often_the_confident_ones(runs, tmp_path):
    report = alignment()
    first, last = report.layers
    sentence = "ever more queries fit an object almost as well"
    for recall, told in ((60.0, False), (40.0, True)):
        last = dataclasses.replace(last, br_recall={"1": recall, "2": 80.0})
        dataclasses.replace(report, layers=[first, last]).save(tmp_path / "a")
        write_report([read_run(tmp_path / "a")], tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text()
        assert (sentence in page) == told and ("a at N, by layer: 50.0, 40.0 %" in page) == told


def test_page_without_data_says_so(runs, tmp_path):
    (tmp_path / "data" / "val.json").unlink()
    notes = write_report(runs[:1], tmp_path / "report.html")
    assert len(notes) == 1 and "val.json: not found from here" in notes[0]
    assert "Hardest images" not in (tmp_path / "report.html").read_text()
    os.mkfifo(tmp_path / "data" / "val.json")  # would be waited for
    (note,) = write_report(runs[:1], tmp_path / "report.html")
    assert "val.json: no file" in note


def test_a_config_without_ground_truth_is_a_note(runs, tmp_path):
    (tmp_path / "a" / "config.yaml").write_text("dataloader: {}\n")
    notes = write_report([read_run(tmp_path / "a")], tmp_path / "report.html")
    assert "the config names no ground truth: set dataloader.dataset.val" in notes[0]
    for odd in ("dataloader: 5", "dataloader: {test: {dataset: {names: 5}}}", "dataloader: []"):
        (tmp_path / "a" / "config.yaml").write_text(odd)
        assert notes == write_report([read_run(tmp_path / "a")], tmp_path / "report.html")


def test_runs_on_other_data_are_not_compared(runs, tmp_path):
    write_data(tmp_path / "other")
    write_run(tmp_path / "d", tmp_path / "other", GOOD)
    notes = write_report([runs[0], read_run(tmp_path / "d")], tmp_path / "report.html")
    assert len(notes) == 1 and "d: other data" in notes[0]


def test_detections_that_are_not_the_runs_are_left_out(runs, tmp_path):
    data = tmp_path / "data/val.json"
    weights = {"checkpoint": None, "iteration": 20, "averaged": False}
    write_origin(tmp_path / "a", data, weights)
    assert write_report(runs[:1], tmp_path / "report.html") == []
    write_origin(tmp_path / "a", data, {**weights, "checkpoint": "other.pth"})
    notes = write_report(runs[:1], tmp_path / "report.html")
    assert notes == [
        "a: left out of classes and images: its detections are of other.pth, scored by itself"
    ]
    (tmp_path / "a/evaluation.json").write_text('{"annotations": "x"}')
    with pytest.raises(InputError, match="evaluation.json: annotations is damaged"):
        write_report(runs[:1], tmp_path / "report.html")


def test_run_without_any_evaluation(tmp_path):
    write_data(tmp_path / "data")
    run = read_run(write_run(tmp_path / "a", tmp_path / "data", []))
    (run.folder / "metrics.json").unlink()
    assert write_report([read_run(run.folder)], tmp_path / "report.html") == []


RESULTS = "a/coco_instances_results.json"


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        (RESULTS, json.dumps([{**GOOD[0], "image_id": 9}]), ["image", "9"]),
        (RESULTS, '[{"image_id"', ["detections"]),
        (RESULTS, json.dumps([{**GOOD[0], "score": float("nan")}]), ["detections", "finite"]),
        (RESULTS, json.dumps([{**GOOD[0], "image_id": []}]), ["detections"]),
        (RESULTS, json.dumps([{**GOOD[0], "bbox": "abcd"}]), ["detections"]),
        ("data/val.json", "{}", ["COCO"]),
        ("data/val/1.jpg", "no image", ["readable"]),
        ("data/val.json", {"width": "sixty"}, ["images", "width", "sixty"]),
        ("a/alignment.json", "{}", ["alignment.json"]),
        ("a/run.json", None, ["missing"]),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(runs, tmp_path, name, content, names):
    (tmp_path / RESULTS).write_text("[]")  # every object is missed
    path = tmp_path / name
    if isinstance(content, dict):
        truth = json.loads(path.read_text())
        truth["images"][0] |= content
        content = json.dumps(truth)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with refused(path.name, *names):
        write_report([read_run(tmp_path / "a")], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_command_line(runs, tmp_path, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "tools/report.py"), run_name="__main__")

    command(tmp_path / "a", "-o", tmp_path / "report.html")
    assert "report.html: 1 run, " in capsys.readouterr().out
