"""Alignment of results files, of models and during training; pictures, tables, bad input."""

from __future__ import annotations

import json
import math
import runpy
import sys

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detrex.evaluation import COCOEvaluator
from detrex.evaluation.alignment import alignment_of_results, load_report, with_layers
from detrex.evaluation.alignment.plots import PANELS, overview, save_plots
from detrex.evaluation.alignment.tables import format_report
from detrex.evaluation.calibration import load_calibration
from detrex.evaluation.calibration.plots import reliability_diagram
from detrex.utils.errors import InputError
from tests.models import ROOT, image, tiny
from tests.report.fake_runs import calibration


def coco(images, classes=5):
    """COCO JSON of detectron2 inputs, whose ids are their places plus 1."""
    annotations = []
    for i, sample in enumerate(images):
        found = sample["instances"]
        for box, label in zip(found.gt_boxes.tensor, found.gt_classes, strict=True):
            x0, y0, x1, y1 = box.tolist()
            annotations.append(
                {
                    "image_id": i + 1,
                    "category_id": 3 * int(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": i + 1, "height": x["height"], "width": x["width"]} for i, x in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 3 * k + 1, "name": f"class{k}"} for k in range(classes)],
    }


@pytest.fixture
def data(tmp_path):
    """Three images, registered with detectron2; perfect detections of all but one object."""
    images = [image(64, 80, 3, seed=i) for i in range(3)]
    for i, sample in enumerate(images):
        sample["image_id"] = i + 1
    gt = coco(images)
    (tmp_path / "val.json").write_text(json.dumps(gt))
    keys = ("image_id", "category_id", "bbox")
    found = [{**{k: a[k] for k in keys}, "score": 0.9} for a in gt["annotations"][1:]]
    (tmp_path / "results.json").write_text(json.dumps(found))
    MetadataCatalog.pop("alignment_test", None)
    mapping = {3 * k + 1: k for k in range(5)}
    MetadataCatalog.get("alignment_test").set(
        json_file=str(tmp_path / "val.json"), thing_dataset_id_to_contiguous_id=mapping
    )
    return images


def test_results_of_any_detector(data, tmp_path):
    report = alignment_of_results(tmp_path / "results.json", tmp_path / "val.json")
    assert (report.kind, report.images, report.objects) == ("detections", 3, 9)
    last = report.last
    assert last.matched_iou == pytest.approx(1) and last.matched_confidence == pytest.approx(0.9)
    assert last.olrp["localisation"] == pytest.approx(0) and last.olrp["FP"] == 0
    assert math.isnan(last.pearson)  # all confidences are equal
    text = format_report(report)
    assert "3 images, 9 objects" in text and "class4" in text and "nan" not in text
    paths = save_plots(report, tmp_path / "pictures")
    assert len(paths) == 2 * len(PANELS)  # one panel less, and the overview
    assert not [ax for ax in overview(report).axes if ax.axison and not ax.has_data()]
    for path in paths:
        content = (tmp_path / "pictures" / path).read_bytes()
        assert content[:4] == b"\x89PNG" or b"<svg" in content[:1000]


def test_results_of_few_images_are_pointed_out(data, tmp_path, caplog):
    found = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "part.json").write_text(json.dumps([d for d in found if d["image_id"] == 2]))
    report = alignment_of_results(tmp_path / "part.json", tmp_path / "val.json")
    assert "part.json has detections for only 1 of the 3 images" in caplog.text
    assert report.images == 3 and report.last.olrp["FN"] > 50


def change(**fields):
    return lambda gt, found: found[0].update(fields)


@pytest.mark.parametrize(
    "broken, message",
    [
        (change(image_id=99), "results.json: detections of another data set: .*image_id.*99"),
        (change(category_id=2), "results.json: detections of another data set: .*category_id.*2"),
        (change(score=7), r"results.json: scores from 0.9 to 7, some outside \[0, 1\]"),
        (lambda gt, found: found.clear(), "results.json: no detections at all"),
        (lambda gt, found: gt["annotations"].clear(), "val.json: .*no objects"),
        (lambda gt, found: gt["images"][1].pop("width"), "val.json: image 2 .*no height and width"),
    ],
)
def test_results_that_do_not_fit_are_one_clear_error(data, tmp_path, broken, message):
    gt, found = (json.loads((tmp_path / n).read_text()) for n in ("val.json", "results.json"))
    broken(gt, found)
    (tmp_path / "val.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match=message):
        alignment_of_results(tmp_path / "results.json", tmp_path / "val.json")


def evaluate(model, images, folder, **options):
    evaluator = COCOEvaluator("alignment_test", folder, **options)
    with torch.no_grad():
        evaluator.process(images, with_layers(model.eval())(images))
    return evaluator.evaluate()


def test_every_layer_of_a_model_in_one_pass(data, tmp_path):
    model = tiny()
    results = evaluate(model, data, tmp_path, diagnose=True)
    report = load_report(tmp_path / "alignment.json")
    assert (report.kind, len(report.layers)) == ("queries", 2)
    assert results["alignment"]["AP_layer2"] == pytest.approx(results["bbox"]["AP"])
    assert report.last.scores == pytest.approx(dict(results["bbox"]), nan_ok=True)
    samples = sum(map(sum, report.last.density)) + sum(report.last.histograms["unmatched"])
    assert samples == 3 * model.groups[0].size  # every query is matched or not
    with torch.no_grad():
        plain, layered = model(data), with_layers(model)(data)
    for one, other in zip(plain, layered, strict=True):
        assert torch.equal(one["instances"].scores, other["instances"].scores)
        assert torch.equal(one["instances"].pred_boxes.tensor, other["instances"].pred_boxes.tensor)


def test_softmax_models_have_no_class_for_nothing(data, tmp_path):
    model = tiny("projects/detr/configs/detr_r50_300ep.py")
    evaluate(model, data, tmp_path, diagnose={"min_iou": 0.1})
    report = load_report(tmp_path / "alignment.json")
    assert len(report.classes) == 5 and report.definitions["min_iou"] == 0.1


def test_models_and_definitions_that_do_not_fit(data, tmp_path):
    with pytest.raises(InputError, match="no definition 'min_iuo', there are min_iou, "):
        COCOEvaluator("alignment_test", diagnose={"min_iuo": 0.1})
    with pytest.raises(InputError, match="the model has 4 classes, but .*val.json has 5"):
        evaluate(tiny(num_classes=4, criterion__num_classes=4), data, None, diagnose=True)


def test_training_logs_alignment(tiny_run):
    """Written by the trainer like every score, so TensorBoard and metrics.json have it."""
    long = ["train.max_iter=40", "train.eval_period=20", "optimizer.lr=0.05"]
    tiny_run("run", *long, "dataloader.evaluator.diagnose=True")
    folder = tiny_run.folder / "run"
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    values = {x["iteration"]: x["alignment/matched_iou"] for x in lines if "bbox/AP" in x}
    assert len(values) == 2 and all(0 < value < 1 for value in values.values())
    calibration = load_calibration(folder / "calibration.json")
    last = next(x for x in reversed(lines) if "bbox/AP" in x)
    assert last["calibration/D-ECE"] == pytest.approx(calibration.scalars()["D-ECE"], rel=1e-5)
    report = load_report(folder / "alignment.json")
    assert values[max(values)] == pytest.approx(report.last.matched_iou)
    events = EventAccumulator(str(folder)).Reload()
    logged = [event.value for event in events.Scalars("alignment/matched_iou")]
    assert logged == pytest.approx(list(values.values()))


@pytest.fixture
def analyze(monkeypatch, capsys):
    """The command: exit status, standard output and error."""

    def run(*arguments):
        path = ROOT / "tools/analyze_alignment.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_command_on_a_model(analyze, tiny_run, tmp_path):
    tiny_run("run", "train.max_iter=1")
    weights = f"train.init_checkpoint={tiny_run.folder}/run/model_final.pth"
    arguments = [*tiny_run.args("unused"), weights, "-o", tmp_path / "out", "--br-min-iou", "0.1"]
    code, output, error = analyze(*arguments)
    assert code == 0, error
    assert "12 images, 12 objects" in output and "bright" in output
    assert "Does a score of 0.8 mean 0.8?" in output and "duplicate" in output
    assert load_calibration(tmp_path / "out/calibration.json").images == 12
    report = load_report(tmp_path / "out/alignment.json")
    assert report.definitions["min_iou"] == 0.1
    assert report.source["checkpoint"].endswith("model_final.pth")
    assert (tmp_path / "out/overview.svg").exists()
    assert not (tiny_run.folder / "unused").exists()


def test_command_on_bad_input(analyze, data, tmp_path, tiny_run):
    (tmp_path / "empty.json").write_text("[]")
    results = ["--results", tmp_path / "empty.json"]
    config = tmp_path / "no_evaluator.py"
    config.write_text("from tests.train.tiny_config import *\ndel dataloader.evaluator\n")
    model = [*tiny_run.args("unused"), f"train.init_checkpoint={config}"]
    for options in (model, [*results, "--annotations", tmp_path / "val.json"]):
        code, _, error = analyze(*options, "-o", config)
        assert code == 2 and error.count("\n") == 1 and "no_evaluator.py is not a folder" in error
    for arguments, message in (
        ([*results, "--annotations", tmp_path / "val.json"], "empty.json: no detections at all"),
        (results, "--annotations"),
        ([*results, "--config-file", "x.py"], "goes with --config-file"),
        ([], "give a config file"),
        (["--config-file", config], "no_evaluator.py: without ground truth"),
        ([*tiny_run.args("unused"), "train.init_checkpoint=x.pth"], "x.pth"),
        (tiny_run.args("unused"), "give train.init_checkpoint=FILE"),
        (["--reliability", tmp_path], "calibration.json"),
        (["--reliability", tmp_path, "--results", "x.json"], "goes with --output alone"),
        ([*tiny_run.args("unused"), "--reliability", tmp_path], "goes with --output alone"),
    ):
        code, output, error = analyze(*arguments, "-o", tmp_path / "out")
        assert code == 2 and not (tmp_path / "out").exists()
        assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_reliability_of_several_folders(analyze, tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("a_seed0_0123456789ab", "b", "c", "d", "other/b")]
    for folder in folders:
        calibration().save(folder)
    code, output, error = analyze("--reliability", *folders[:4], "-o", tmp_path / "out")
    assert code == 0 and output == f"wrote {tmp_path}/out/reliability.png\n", error
    svg = (tmp_path / "out/reliability.svg").read_text()
    assert "a seed0 -->" in svg and svg.count('id="axes_') == 6
    assert f"<!-- D-ECE {calibration().overall.errors['D-ECE'][0]:.3f}, LaECE0" in svg
    monkeypatch.chdir(tmp_path)
    code, _, error = analyze("--reliability", "b", "other/b", "-o", "out")
    svg = (tmp_path / "out/reliability.svg").read_text()
    assert code == 0 and "<!-- b -->" in svg and "<!-- other/b -->" in svg, error


def test_a_diagram_shows_the_report():
    report, axes = calibration(), Figure().add_subplot()
    reliability_diagram(axes, report)
    columns = report.overall.reliability
    diagonal, iou, precision = axes.lines
    for line, name in ((iou, "iou"), (precision, "precision")):
        np.testing.assert_array_equal(line.get_xdata(), columns["score"])
        np.testing.assert_array_equal(line.get_ydata(), columns[name])
    heights = np.array([bar.get_height() for bar in axes.patches])
    assert len(heights) == 25 and heights.argmax() == np.argmax(columns["count"])
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_help_names_the_options_of_both_uses(analyze):
    code, output, _ = analyze("--help")
    text = " ".join(output.split())
    for words in ("--config-file FILE", "key=value", "(default: 0.0)", "(default: 0.5)"):
        assert words in text
    assert code == 0
