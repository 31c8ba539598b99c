"""Maps of scores: fitted to known truths, rising, and used by a predictor only when asked."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from detrex import Predictor
from detrex.evaluation.calibration.fit import cross_validate, errors_of, fit, fit_map
from detrex.evaluation.calibration.maps import KINDS, ScoreMaps, apply_map, read_maps
from detrex.evaluation.calibration.of_results import calibrate, read_held_out
from detrex.evaluation.calibration.samples import Samples
from detrex.evaluation.coco_scores import evaluate_detections
from detrex.predict.selection import Selection
from detrex.utils.errors import InputError
from tests.evaluation.random_coco import CATEGORY_IDS, random_detections, random_ground_truth
from tests.models import ROOT
from tests.report.fake_runs import write_data, write_model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def overconfident(count=20_000, seed=0):
    """Samples of two classes whose scores have twice, or half, the logit of the truth."""
    random = np.random.default_rng(seed)
    z, labels = random.normal(-1, 1.5, count), random.integers(0, 2, count)
    right = (random.random(count) < sigmoid(z)).astype(float)
    scores = sigmoid(z * np.where(labels, 0.5, 2))
    return Samples(scores, labels, right, right * 0.8, np.arange(count) // 20), sigmoid(z)


def test_known_temperatures_come_back():
    samples, _ = overconfident()
    maps, without = fit(samples, 2, "temperature", per_class=True)
    assert not without and np.ravel(maps.maps) == pytest.approx([2, 0.5], rel=0.05)
    assert fit(samples, 2, "platt", per_class=True)[0].maps[0] == pytest.approx([0.5, 0], abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_scores_are_the_true_probabilities(kind):
    samples, truth = overconfident()
    maps, _ = fit(samples, 2, kind, per_class=True)
    after = maps.apply(samples.scores, samples.labels)
    before = np.abs(samples.scores - truth).mean()
    assert before > 0.08 and np.abs(after - truth).mean() < 0.02
    errors = cross_validate(samples, 2, kind, "precision", True)["D-ECE"]
    assert errors[0] == pytest.approx(errors_of(samples, 2)["D-ECE"])
    assert errors[1] < 0.02 < errors[0]


def test_the_map_for_iou_makes_scores_the_iou():
    samples, _ = overconfident()
    errors = cross_validate(samples, 2, "isotonic", "iou", True)
    assert errors["LaECE0"][1] < 0.02 < errors["LaECE0"][0]
    assert errors["LaECE0"][1] < errors["D-ECE"][1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", [[0.2, 0.2, 0.7], np.linspace(0, 1, 101), [0.0, 1.0, 0.5]])
def test_maps_rise_strictly(kind, scores):
    random = np.random.default_rng(1)
    scores = np.repeat(scores, 30)
    for targets in ((random.random(len(scores)) < 0.3) * 1.0, random.random(len(scores))):
        parameters = fit_map(kind, scores, targets)
        read_maps(ScoreMaps(kind, "iou", [parameters]).to_dict(), "here")
        grid = np.linspace(0.001, 0.999, 500)
        values = apply_map(kind, parameters, grid)
        assert (np.diff(values) > 0).all() and 0 <= values[0] and values[-1] <= 1


def test_isotonic_is_the_mean_of_each_step():
    scores = np.repeat([0.2, 0.4, 0.6, 0.8], 10)
    targets = np.repeat([0.1, 0.5, 0.3, 0.9], 10)  # the middle two are one step
    values = apply_map("isotonic", fit_map("isotonic", scores, targets), np.array([0.2, 0.5, 0.8]))
    assert values == pytest.approx([0.1, 0.4, 0.9], abs=1e-3)


def test_too_few_detections_are_no_data():
    samples, _ = overconfident(60)
    few = samples.where(np.arange(60) < 49)
    with pytest.raises(InputError, match="not enough data: 49 detections, .* needs 50"):
        fit(few, 2, "platt")
    with pytest.raises(InputError, match="not enough data: 60 detections, 0 of them right"):
        fit(samples._replace(right=np.zeros(60)), 2, "platt")
    with pytest.raises(InputError, match="not enough data: 49 detections, .* needs 50"):
        cross_validate(few, 2, "platt", "iou", False)
    with pytest.raises(InputError, match="images besides each 5th one: 40 detections, .*needs 50"):
        cross_validate(samples, 2, "platt", "iou", False)
    maps, without = fit(samples, 3, "platt", per_class=True)
    common = fit(samples, 3, "platt")[0]
    assert without == [0, 1, 2] and maps.maps == common.maps


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    gt, folder = random_ground_truth(2, images=40), tmp_path_factory.mktemp("maps")
    results = random_detections(gt)
    (folder / "val.json").write_text(json.dumps(gt))
    (folder / "results.json").write_text(json.dumps(results))
    return gt, results, folder


@pytest.mark.parametrize("kind", KINDS)
def test_ap_of_every_class_stays_and_the_order_across_classes_changes(data, kind):
    gt, results, folder = data
    held_out = read_held_out(folder / "results.json", folder / "val.json")
    maps, _, errors = calibrate(held_out, kind, "precision", per_class=True)
    assert errors["D-ECE"][1] < errors["D-ECE"][0]
    labels = np.array([CATEGORY_IDS.index(d["category_id"]) for d in results])
    scores = np.array([d["score"] for d in results])
    after = maps.apply(scores, labels)
    calibrated = [{**d, "score": s} for d, s in zip(results, after.tolist(), strict=True)]
    before = evaluate_detections(gt, results, per_class=True)
    assert evaluate_detections(gt, calibrated, per_class=True) == pytest.approx(before)
    first, second = scores[labels == 0], scores[labels == 1]
    mapped = after[labels == 0], after[labels == 1]
    orders = np.sign(first[:, None] - second), np.sign(mapped[0][:, None] - mapped[1])
    assert (orders[0] != orders[1]).any()
    joint = calibrate(held_out, kind, "precision", per_class=False)[0].apply(scores, labels)
    order = np.argsort(scores)
    assert (np.diff(joint[order]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "unknown calibration 'magic'"),
        ({"maps": [[-1.0]]}, "the map of class 0 is damaged"),
        ({"maps": [[1.0, 2.0]]}, "the map of class 0 is damaged"),
        ({"maps": [[float("nan")]]}, "the map of class 0 is damaged"),
        ({"kind": "isotonic", "maps": [[0.0, 1.0, 0.5, 0.4]]}, "the map of class 0 is damaged"),
        ({"thresholds": {"LRP": [0.5, 0.5]}}, "the LRP thresholds are damaged"),
        ({"thresholds": {"LRP": [7.0]}}, "the LRP thresholds are damaged"),
        ({"maps": "x"}, "no calibration of scores"),
    ],
)
def test_damaged_maps_are_one_line(change, message):
    content = ScoreMaps("temperature", "iou", [[2.0]], {"LRP": [0.5]}).to_dict()
    assert read_maps(content, "a.pth").to_dict() == content
    with pytest.raises(InputError, match=f"^a.pth.*{message}"):
        read_maps(content | change, "a.pth")


def instances():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 10]]
    out = Instances((99, 99), pred_boxes=Boxes(torch.tensor(boxes).float()))
    out.scores, out.pred_classes = torch.tensor([0.6, 0.9, 0.2, 0.5]), torch.tensor([0, 0, 0, 1])
    return out


MAPS = ScoreMaps("temperature", "precision", [[4.0], [0.25]], {"LRP": [0.55, 0.1]})


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ({"threshold": 0.3}, [0.9, 0.6, 0.5]),
        ({"threshold": "auto", "maps": MAPS}, [0.9, 0.6, 0.5]),
        ({"threshold": 0.55, "maps": MAPS}, [0.9, 0.6]),  # not asked, so not calibrated
    ],
)
def test_what_a_predictor_returns(options, scores):
    assert Selection(**options)(instances()).scores.tolist() == pytest.approx(scores)


def test_calibrated_scores_are_sorted_and_compared_with_the_threshold():
    maps = ScoreMaps("temperature", "precision", [[4.0], [0.25]])
    out = Selection(0.51, maps=maps, calibrated=True)(instances())
    expected = [sigmoid(np.log(9) / 4), sigmoid(np.log(1.5) / 4)]
    assert out.scores.tolist() == pytest.approx(expected) and out.pred_classes.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 2}, "threshold 2: scores are numbers between 0 and 1"),
        ({"threshold": "auto"}, "no calibration of scores: write it with tools/calibrate.py"),
        ({"calibrated": True}, "no calibration of scores: write it with tools/calibrate.py"),
        (
            {"threshold": "auto", "maps": ScoreMaps("temperature", "iou", [[1.0]])},
            "threshold auto: the calibration has no LRP thresholds",
        ),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        Selection(**options)


@pytest.fixture
def run(monkeypatch, capsys):
    """A command: exit status, standard output and error."""

    def command(name, *arguments):
        path = ROOT / f"tools/{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return command


def test_command_on_results(data, run, tmp_path):
    _, _, folder = data
    files = "--results", folder / "results.json", "--annotations", folder / "val.json"
    end = "-o", tmp_path / "maps.json", "--per-class"
    code, out, _ = run("calibrate", *files, *end)
    assert code == 0 and "D-ECE" in out and "class11: threshold 0." in out
    maps = read_maps(json.loads((tmp_path / "maps.json").read_text()), "maps.json")
    assert maps.kind == "isotonic" and len(maps.thresholds["F1"]) == len(maps.maps) == 4
    code, _, error = run("calibrate", *files[:2], "-o", tmp_path / "maps.json")
    assert code and error.count("\n") == 1 and "--annotations" in error
    gt, results, _ = data
    first = [entry for entry in results if entry["category_id"] != CATEGORY_IDS[0]][:400]
    logits = [{**entry, "score": 9 * entry["score"] - 5} for entry in first]
    for name, content in (("part", first), ("logits", logits)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    code, out, _ = run("calibrate", "--results", tmp_path / "part.json", *files[2:], *end)
    assert code == 0 and "the threshold of all classes, for want of right boxes: class" in out
    code, _, error = run("calibrate", "--results", tmp_path / "logits.json", *files[2:], *end)
    assert code and "logits.json: scores from -" in error and "outside [0, 1]" in error
    (tmp_path / "few.json").write_text((folder / "results.json").read_text()[:1] + "]")
    code, _, error = run("calibrate", "--results", tmp_path / "few.json", *files[2:], "-o", "x")
    assert code and "no detections at all" in error


def test_checkpoint_carries_its_maps(tmp_path):
    write_data(tmp_path)
    write_model(tmp_path, tmp_path)
    config, model = tmp_path / "config.yaml", tmp_path / "model.pth"
    with pytest.raises(InputError, match="model.pth: no calibration of scores"):
        Predictor(config, model, calibrated=True)
    content = torch.load(model)
    content["metadata"]["calibration"] = MAPS.to_dict()
    torch.save(content, tmp_path / "calibrated.pth")
    image = tmp_path / "val/1.jpg"
    plain = Predictor(config, tmp_path / "calibrated.pth", threshold=0.0)(image)
    assert torch.equal(plain.scores, Predictor(config, model, threshold=0.0)(image).scores)
    honest = Predictor(config, tmp_path / "calibrated.pth", threshold=0.0, calibrated=True)(image)
    expected = MAPS.apply(plain.scores.numpy(), plain.pred_classes.numpy())
    assert sorted(honest.scores.tolist()) == pytest.approx(sorted(expected), rel=1e-5)
    content["metadata"]["calibration"]["maps"] = [[1.0]]
    content["metadata"]["calibration"]["thresholds"] = {}
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match="other.pth: its calibration is of 1 classes"):
        Predictor(config, tmp_path / "other.pth", calibrated=True)


def test_a_saved_folder_has_the_maps(tmp_path):
    write_data(tmp_path)
    write_model(tmp_path, tmp_path)
    content = torch.load(tmp_path / "model.pth")
    content["metadata"]["calibration"] = MAPS.to_dict()
    torch.save(content, tmp_path / "model.pth")
    Predictor(tmp_path / "config.yaml", tmp_path / "model.pth").save_pretrained(tmp_path / "hub")
    options = {"threshold": "auto", "calibrated": True}
    before = Predictor(tmp_path / "config.yaml", tmp_path / "model.pth", **options)
    after = Predictor.from_pretrained(tmp_path / "hub", **options)
    image = tmp_path / "val/1.jpg"
    assert after.maps == MAPS and len(before(image)) > 3
    assert torch.equal(after(image).scores, before(image).scores)


def test_predict_asks_for_maps_thresholds_and_nms(run, tmp_path):
    write_data(tmp_path)
    write_model(tmp_path, tmp_path)
    content = torch.load(tmp_path / "model.pth")
    content["metadata"]["calibration"] = MAPS.to_dict()
    torch.save(content, tmp_path / "model.pth")
    files = tmp_path / "config.yaml", tmp_path / "model.pth", tmp_path / "val"
    out = "-o", tmp_path / "out", "--json", tmp_path / "out.json"

    def scores(*options):
        code, _, error = run("predict", *files, *out, *options)
        assert code == 0, error
        images = json.loads((tmp_path / "out.json").read_text())
        return [[(d["label"], d["score"]) for d in image["detections"]] for image in images]

    plain = scores("--threshold", "0")
    expected = []
    for image in plain:
        labels, raw = map(np.array, zip(*image, strict=True))
        shown = raw >= np.array(MAPS.thresholds["LRP"])[labels]
        expected.append(sorted(MAPS.apply(raw, labels)[shown], reverse=True))
    honest = scores("--threshold", "auto", "--calibrated")
    assert [len(image) for image in honest] != [len(image) for image in plain]
    for image, values in zip(honest, expected, strict=True):
        assert [score for _, score in image] == pytest.approx(values, rel=1e-5)
    distinct = scores("--threshold", "0", "--set", "model.nms_iou=0.01")
    assert sum(map(len, distinct)) < sum(map(len, plain))


def test_command_on_a_model(run, tmp_path):
    """The objects are the model's own best boxes, so that half of its detections are right."""
    write_data(tmp_path)
    write_model(tmp_path, tmp_path)
    config, model = tmp_path / "config.yaml", tmp_path / "model.pth"
    predictor = Predictor(config, model, threshold=0.0)
    coco = json.loads((tmp_path / "val.json").read_text())
    coco["images"], coco["annotations"] = [], []
    for i in range(8):
        Image.new("RGB", (60, 40), (i * 30, 90, 120)).save(tmp_path / f"val/{i}.jpg")
        coco["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40})
        detections = predictor.to_dict(predictor(tmp_path / f"val/{i}.jpg"))["detections"]
        for d in detections[:6]:
            annotation = {"category_id": 3 + 4 * d["label"], "bbox": d["bbox"], "iscrowd": 0}
            area = d["bbox"][2] * d["bbox"][3]
            number = len(coco["annotations"]) + 1
            coco["annotations"].append({"id": number, "image_id": i, "area": area, **annotation})
    (tmp_path / "val.json").write_text(json.dumps(coco))
    code, out, error = run("calibrate", config, model, "-o", tmp_path / "honest.pth")
    assert code == 0, error
    assert "D-ECE" in out and "cat: threshold 0." in out
    honest = Predictor(config, tmp_path / "honest.pth", threshold="auto", calibrated=True)
    image = tmp_path / "val/3.jpg"
    assert 0 < len(honest(image)) < len(predictor(image))
    before, after = torch.load(model)["model"], torch.load(tmp_path / "honest.pth")["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    code, _, error = run("calibrate", config, "-o", tmp_path / "x.pth")
    assert code == 2 and error.startswith("error: give CONFIG and CHECKPOINT")
