import dataclasses
import json
import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from detrex.evaluation.alignment.collector import Detections
from detrex.evaluation.calibration.image import KINDS
from detrex.evaluation.coco_json import load_ground_truth
from detrex.evaluation.matching import Truth
from detrex.evaluation.origin import write_origin
from detrex.report import (
    calibration_figures,
    compare,
    gallery,
    groups,
    page,
    tallies,
    write_report,
)
from detrex.report.evaluated import page_data, read_evaluated
from detrex.report.figures import COLORS, thinned
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


def _truth(boxes, labels, crowds=()):
    corners = [np.array(b, float).reshape(-1, 4) for b in (boxes, crowds)]
    for box in corners:
        box[:, 2:] += box[:, :2]
    labels, areas = np.array(labels, int), np.ones(len(labels))
    return Truth(corners[0], labels, areas, corners[1], np.ones(len(crowds), int), (99, 99))


def _judged(truth, *entries):
    boxes = np.array([entry[2] for entry in entries], float)
    boxes[:, 2:] += boxes[:, :2]
    labels, scores = (np.array([entry[i] for entry in entries]) for i in (1, 3))
    return gallery.judge(Detections(boxes, scores, labels), truth)


def _column(rows, name):
    return rows[:, getattr(gallery, name) - 1].tolist()


def test_mistakes_by_hand():
    truth = _truth([[0, 0, 10, 10], [5, 0, 10, 10], [50, 50, 10, 10]], [1, 1, 1])
    rows = _judged(
        truth,
        (0, 1, [3, 0, 10, 10], 0.9),  # IoU 7/13 with the first, 8/12 with the second
        (0, 1, [4, 0, 10, 10], 0.8),  # IoU 6/14 with the first, 9/11 with the second
        (0, 2, [50, 50, 10, 10], 0.95),  # another class
    )
    assert _column(rows, "SCORE") == [0.95, 0.9, 0.8]
    # the second object is taken by the more confident box
    kinds = [KINDS.index("classification"), -1, KINDS.index("duplicate")]
    assert _column(rows, "KIND") == kinds and _column(rows, "TARGET") == [-1, 1, -1]
    assert _column(rows, "CONFUSED") == [2, 1, -1] and _column(rows, "TRUE_LABEL") == [1, 1, -1]
    assert rows[0, :4].tolist() == [50, 50, 10, 10]


def test_detections_in_crowds_do_not_count():
    crowd = _truth([], [], [[0, 0, 100, 100]])
    assert not len(_judged(crowd, *((0, 1, [x, 0, 10, 10], 0.5) for x in (0, 20))))
    (row,) = _judged(_truth([], []), (0, 1, [0, 0, 5, 5], 0.5))
    assert row[gallery.KIND - 1] == KINDS.index("background")


@pytest.fixture
def judged(runs):
    return read_evaluated(runs, ["a", "b", "c"]).judged


def test_every_gallery_gets_its_worst_image_first(judged):
    objects = np.array([1, 2, 0])
    # b misses all of both images, and is wrong on image 1; image 2 has no mistake
    assert gallery.choose_images(judged[:2], objects, 0.3, 5) == [1, 0]
    assert gallery.choose_images(judged[:2], objects, 0.3, 1) == [1]
    assert gallery.choose_images(judged[:1], objects, 0.95, 5) == [1, 0]  # all are missed
    assert gallery.choose_images(judged[:1], objects, 0.3, 5) == []


def test_what_the_page_computes_with(judged):
    first, last, number = gallery.packed(judged[1], [0, 1, 2]), tallies.THRESHOLDS[0], len(KINDS)
    assert first[0] == [] == first[2] and last == 0.05
    box, small = np.reshape(first[1], (-1, 9)).tolist()
    # in place of another class: object 0, which lies there
    assert box == [0, 0, 30, 30, 0, 900, KINDS.index("classification"), -1, 0]
    assert small == [41, 10, 10, 10, 0, 200, -1, 1, 1]
    counts = np.array(tallies.by_kind(judged[1]))
    right, wrong = counts[number], counts[KINDS.index("classification")]
    assert right[:16].tolist() == [1] * 16 and not right[16:].any()  # from 0.05 to 0.2
    assert wrong[85] == 1 and wrong[86] == 0 and counts.sum() == right.sum() + wrong.sum()
    matrix = tallies.confused_classes(judged[1], np.array([2, 1]))
    assert matrix["0.1"] == [[0, 0, 1], [0, 2, 1], [1, 0, 1]]
    assert matrix["0.3"] == [[0, 2, 2], [1, 0, 1]]


def test_images_stop_where_the_page_is_full(runs, monkeypatch):
    evaluated = read_evaluated(runs, ["a", "b", "c"])
    images = page_data(evaluated, 5, 0.3)["images"]
    assert [image["name"] for image in images] == ["0.jpg", "1.jpg"]
    monkeypatch.setattr(gallery, "MOST_BYTES", sum(len(image["uri"]) for image in images) - 1)
    data = page_data(evaluated, 5, 0.3)
    assert [image["name"] for image in data["images"]] == ["1.jpg"]  # the worst
    assert [boxes and len(boxes) for boxes in data["boxes"]] == [1, 1, None]


def test_wrong_boxes_are_limited_and_right_ones_are_not():
    rows = np.zeros((200, 11))
    rows[100:, gallery.KIND] = -1
    assert len(gallery.packed(rows, [0])[0]) == 9 * (100 + gallery.MOST_WRONG)


def test_only_keys_that_differ_are_shown(runs):
    assert compare.config_rows(runs) == [("optimizer.lr", ["0.1", "0.2", "0.1"])]
    assert compare.config_rows(runs[:1]) == []


def test_scores_and_classes(runs):
    rows = compare.score_rows(runs, ["a", "b", "c"])
    assert [row["scores"]["AP"] for row in rows] == [10.0, 20.0, 10.0]
    best = compare.best_scores(rows)
    assert best["AP"] == 20.0 and best["APl"] is None
    truth = load_ground_truth(runs[0].config["dataloader"]["dataset"]["val"]["json"])
    cat, script = compare.class_rows(
        truth, [{f"AP-{CLASSES[0]}": 40.0}, {f"AP-{CLASSES[0]}": 44.0}, {"AP-x": 1.0}],
        [groups.Group("a", (0, 1)), groups.Group("b", (2,))],
    )  # fmt: skip
    ap = [(42.0, pytest.approx(8**0.5)), (None, None)]
    assert cat == {"name": CLASSES[0], "objects": 2, "ap": ap}
    assert script["objects"] == 1


def test_low_scores_are_left_out(runs, tmp_path):
    low = [{**GOOD[0], "score": 0.04}, GOOD[1]]
    run = read_run(write_run(tmp_path / "d", tmp_path / "data", low))
    evaluated = read_evaluated([run, runs[2]], ["d", "c"])
    assert len(evaluated.judged[0]) == 1 and evaluated.judged[1] is None
    assert evaluated.scores[0]["AP"] < 100 and evaluated.scores[1] == {}


def _variants(folder, **seeds):
    """Folders of an ablation: "name": [seeds]; the learning rate is the place of the name."""
    for i, (name, numbers) in enumerate(seeds.items()):
        for seed in numbers:
            run = write_run(folder / f"{name}_seed{seed}_{seed:012x}", folder, None, lr=0.1 + i)
            for file, key in (("config.yaml", "seed: 1"), ("run.json", '"seed": 1')):
                text = (run / file).read_text()
                (run / file).write_text(text.replace(key, key[:-1] + str(seed)))
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["train"]["seed"] = seed
            (run / "config.yaml").write_text(yaml.dump(config))
    return [read_run(path.parent) for path in sorted(folder.glob("*/run.json"))]


def test_runs_that_differ_in_their_seeds_are_a_group(tmp_path):
    runs = _variants(tmp_path, a_loss=[0, 1, 2], b_loss=[0])
    together = groups.group_by_config(runs)
    assert [(g.name, g.runs) for g in together] == [("a loss", (0, 1, 2)), ("b loss", (3,))]
    names = groups.run_names(runs, together)
    assert names == ["a loss, seed 0", "a loss, seed 1", "a loss, seed 2", "b loss"]
    for i, run in enumerate(runs[:3]):
        run.evaluations[20]["AP"] = 10.0 + i
    rows = compare.group_rows(compare.score_rows(runs, names), together)
    assert rows[0]["cells"]["AP"] == (11.0, 1.0) and rows[0]["n"] == 3
    assert rows[1]["cells"]["AP"] == (pytest.approx(110), None)
    assert rows[0]["cells"]["APl"] == (None, None)


def test_the_best_evaluation_counts(runs):
    run = runs[0]
    run.evaluations[10] = {"AP": 30.0, "AP50": 40.0, "ema_bbox/AP": 1.0}
    run.evaluations[20] = {"AP": 20.0, "AP50": 50.0, "ema_bbox/AP": 2.0}
    own, averaged = compare.score_rows([run], ["a"])
    assert own["iteration"] == 10 and own["scores"]["AP50"] == 40.0
    assert averaged["iteration"] == 20 and averaged["scores"]["AP"] == 2.0


def test_the_page_says_that_the_images_are_not_of_the_best_evaluation(runs, tmp_path):
    with open(tmp_path / "a/metrics.json", "a") as stream:
        stream.write('{"iteration": 15, "bbox/AP": 90.0}\n')
    notes = write_report([read_run(tmp_path / "a")], tmp_path / "report.html")
    assert notes[0].startswith("a: classes, errors, images and diagnosis are not of")
    # A run that keeps the files of its best evaluation shows those.
    (tmp_path / "a/best").mkdir()
    for name in ("coco_instances_results.json", "alignment.json", "calibration.json"):
        if (tmp_path / "a" / name).exists():
            (tmp_path / "a" / name).rename(tmp_path / "a/best" / name)
    best = {"metric": "bbox/AP", "value": 90.0, "iteration": 15}
    (tmp_path / "a/best.json").write_text(json.dumps(best))
    notes = write_report([read_run(tmp_path / "a")], tmp_path / "report.html")
    assert not any("best AP" in note or "detections" in note for note in notes)


def test_facts_of_a_run(runs, tmp_path):
    record = json.loads((tmp_path / "a/run.json").read_text())
    record |= {"parameters": 40_300_000, "hardware": "2 × H", "started": "2026-01-31T10:00:00+00"}
    record["data"] = {"train": {"images": 1000}, "val": {"images": "x"}}
    (tmp_path / "a/run.json").write_text(json.dumps(record))
    with open(tmp_path / "a/metrics.json", "a") as stream:
        stream.write('{"iteration": 24, "time": 288.0}\n')
    facts = compare.facts(read_run(tmp_path / "a"))
    assert facts["data"] == "– (1,000 train images)" and facts["parameters"] == "40.3 M"
    assert facts["length"] == "25 iterations, 2.5 epochs, 2.0 h"
    assert facts["hardware"] == "2 × H" and facts["date"] == "2026-01-31"
    assert set(compare.facts(runs[1]).values()) == {"–", "21 iterations, 2.1 epochs"}


def test_a_run_that_did_not_note_its_day_has_that_of_its_events(runs):
    (runs[0].folder / "events.out.tfevents.1795980922.host.1.0").touch()
    assert runs[0].started == "2026-11-29" and runs[1].started == ""


def _contrast(first, second):
    """WCAG 2's contrast of two colours, "#rrggbb"."""
    light = []
    for color in (first, second):
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in values]
        light.append(0.05 + np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return max(light) / min(light)


def test_lines_can_be_seen_on_light_and_on_dark_pages():
    for color in (*COLORS, *calibration_figures.KIND_COLORS.values()):
        assert _contrast(color, "#ffffff") >= 3 and _contrast(color, "#1f2125") >= 3
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


def test_text_can_be_read_in_both_themes():
    style = (Path(page.__file__).parent / "page.css").read_text()
    themes = re.findall(r":root[^{]*\{([^}]*--page[^}]*)\}", style)
    assert len(themes) == 2
    for theme in themes:
        colors = {
            name: value if len(value) == 7 else "#" + "".join(2 * c for c in value[1:])
            for name, value in re.findall(r"--(\w+): (#\w+)", theme)
        }
        for text in ("text", "soft", "accent", "up", "down"):
            for paper in ("page", "card"):
                assert _contrast(colors[text], colors[paper]) >= 4.5, (text, paper)
        assert _contrast(colors["text"], colors["heat"]) >= 4.5


def test_long_curves_are_thinned_to_means():
    x, y = np.arange(1200), np.tile([1.0, 2.0, 3.0, 4.0], 300)
    thin_x, thin_y = thinned(x, y)
    assert thin_x == [3.5 + 8 * i for i in range(150)] and set(thin_y) == {2.5}
    assert thinned(x[:3], y[:3]) == [[0, 1, 2], [1, 2, 3]]


def test_runs_of_one_name_are_told_apart(tmp_path):
    for name in ("x/seed0", "y/seed0", "y/seed1"):
        write_run(tmp_path / name, tmp_path, None)
    runs = [read_run(tmp_path / name) for name in ("x/seed0", "y/seed0", "y/seed1")]
    assert groups.unique_names(runs) == ["x/seed0", "y/seed0", "y/seed1"]
    assert groups.unique_names(runs[1:]) == ["seed0", "seed1"]
    assert groups.unique_names([runs[0], runs[0]]) == ["seed0", "seed0"]


# --- the page ---------------------------------------------------------------------------------


def test_page_of_three_runs(runs, tmp_path):
    notes = write_report(runs, tmp_path / "report.html")
    assert notes[0] == "c: no detections yet, left out of classes and images"
    assert [note.partition(" left out of ")[0] for note in notes[1:]] == [
        "c, b: no alignment.json,", "a, c: no calibration.json,"
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "alert(1)</script>" not in page and "<b>a</b>" not in page  # everything is escaped
    assert page.count("data:image/webp;base64,") == 2
    assert "Does the best box get the best score?" in page and "optimizer.lr" in page
    assert "What is a score worth?" in page and page.count('class="plot" id="figure-') == 7 + 6


def test_numbers_of_the_calibration_are_those_of_the_report():
    report = calibration()
    named = [(1, "b", report)]
    drawn = {figure["title"]: figure for figure in calibration_figures.error_figures(named)}
    traces = drawn["Which errors cost AP?"]["traces"]
    costs = {trace["name"]: trace["x"][0] for trace in traces}
    assert costs["wrong class"] == report.overall.costs["classification"] > 1
    row, _ = calibration_figures.class_rows(report)
    assert row[:2] == [CLASSES[0], report.classes[0].objects]
    assert row[2] == pytest.approx(report.classes[0].operating_points["F1"]["score"], rel=0.01)
    (errors,) = calibration_figures.error_rows(named)
    assert errors["errors"][0].startswith(f"{report.overall.errors['D-ECE'][0]:.3f} (")


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
    assert "val.json: not found from here" in notes[0]
    page = (tmp_path / "report.html").read_text()
    assert 'id="images"' not in page and 'id="confusion"' not in page
    os.mkfifo(tmp_path / "data" / "val.json")  # would be waited for
    note, _ = write_report(runs[:1], tmp_path / "report.html")
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
    assert "d: other data" in notes[0]


def test_data_without_objects_is_a_note(runs, tmp_path):
    truth = json.loads((tmp_path / "data/val.json").read_text())
    (tmp_path / "data/val.json").write_text(json.dumps({**truth, "annotations": []}))
    notes = write_report(runs[:1], tmp_path / "report.html")
    assert notes[0].startswith("a: no objects in") and "val.json" in notes[0]


def test_detections_that_are_not_the_runs_are_left_out(runs, tmp_path):
    data = tmp_path / "data/val.json"
    weights = {"checkpoint": None, "iteration": 20, "averaged": False}
    write_origin(tmp_path / "a", data, weights)
    first = write_report(runs[:1], tmp_path / "report.html")
    assert len(first) == 1 and "no calibration.json" in first[0]
    write_origin(tmp_path / "a", data, {**weights, "checkpoint": "other.pth"})
    notes = write_report(runs[:1], tmp_path / "report.html")
    text = "a: left out of classes and images: its detections are of other.pth, scored by itself"
    assert notes == [text, *first]
    (tmp_path / "a/evaluation.json").write_text('{"annotations": "x"}')
    with pytest.raises(InputError, match="evaluation.json: annotations is damaged"):
        write_report(runs[:1], tmp_path / "report.html")


def test_run_without_any_evaluation(tmp_path):
    write_data(tmp_path / "data")
    run = read_run(write_run(tmp_path / "a", tmp_path / "data", []))
    (run.folder / "metrics.json").unlink()
    assert len(write_report([read_run(run.folder)], tmp_path / "report.html")) == 2
    page = (tmp_path / "report.html").read_text()
    assert 'id="images"' in page and 'id="calibration"' not in page and 'id="ranking"' not in page


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
