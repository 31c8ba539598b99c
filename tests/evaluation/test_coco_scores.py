"""COCO's numbers from detections, by every backend."""

import copy
import json
import math
import tracemalloc

import numpy as np
import pytest

from detrex.evaluation import coco_scores, evaluate_detections
from detrex.evaluation.coco_json import load_detections, load_ground_truth
from detrex.evaluation.coco_scores import (
    BACKENDS,
    SCORES,
    format_table,
    main_scores,
    precision_and_recall,
)
from detrex.report.compare import class_rows
from detrex.report.groups import Group
from detrex.utils.errors import InputError
from tests.evaluation.random_coco import CATEGORY_IDS, random_detections, random_ground_truth
from tests.refusals import assert_refused


def _pycocotools_stats(gt, detections, category=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = {"info": {}, **copy.deepcopy(gt)}
    coco.createIndex()
    run = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
    if category is not None:
        run.params.catIds = [category]
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [100 * s if s > -1 else math.nan for s in run.stats]


@pytest.mark.parametrize("backend", BACKENDS)
def test_twelve_numbers_equal_pycocotools_own_summary(backend):
    gt = random_ground_truth()
    detections = random_detections(gt)
    expected = _pycocotools_stats(gt, detections)
    assert 10 < expected[0] < 90  # neither trivial nor empty
    scores = evaluate_detections(gt, detections, backend)
    assert list(scores) == list(SCORES)
    np.testing.assert_allclose(list(scores.values()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_class_scores_equal_pycocotools_on_one_class(backend):
    gt = random_ground_truth(2)
    gt["categories"].reverse()  # the order in the file must not matter
    gt["annotations"] = [a for a in gt["annotations"] if a["category_id"] != 11]
    detections = random_detections(gt)
    scores = evaluate_detections(gt, detections, backend, per_class=True)
    for category in CATEGORY_IDS:
        expected = _pycocotools_stats(gt, detections, category)[0]
        np.testing.assert_allclose(scores[f"AP-class{category}"], expected, rtol=0, atol=1e-6)
    assert math.isnan(scores["AP-class11"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_score_as_dicts_do(backend):
    gt = random_ground_truth(7)
    detections = random_detections(gt)
    rows = [[d["image_id"], *d["bbox"], d["score"], d["category_id"]] for d in detections]
    expected = evaluate_detections(gt, detections, "pycocotools")
    assert evaluate_detections(gt, np.array(rows), backend) == pytest.approx(expected)
    assert evaluate_detections(gt, np.zeros((0, 7)), backend)["AP"] == 0
    rows[0][0] = 3
    with pytest.raises(InputError, match="1 unknown image_ids, not in the ground truth JSON: 3$"):
        evaluate_detections(gt, np.array(rows), backend)


def test_hand_computed_scores():
    """Two objects, one found at IoU 0.8: precision 1 up to recall 0.5 for 7 of 10 thresholds."""
    gt = {
        "images": [{"id": 7}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"image_id": 7, "category_id": 1, "bbox": [50, 50, 10, 10]},
        ],
    }
    detections = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 8], "score": 0.9}]
    scores = evaluate_detections(gt, detections)
    half = 100 * 51 / 101  # recall levels 0.00 ... 0.50 of 101
    assert scores["AP50"] == pytest.approx(half)
    assert scores["AP"] == pytest.approx(half * 7 / 10)
    assert scores["AR100"] == pytest.approx(50 * 7 / 10)
    assert scores["APs"] == scores["AP"] and math.isnan(scores["APl"])
    assert "id" not in gt["annotations"][0]  # filled in a copy
    assert "area= large | maxDets=100 ] = no objects" in format_table(scores)
    assert f"IoU=0.50      | area=   all | maxDets=100 ] = {half / 100:.3f}" in format_table(scores)


def test_max_dets_counts_the_best_boxes_only():
    gt = random_ground_truth(3)
    detections = random_detections(gt)
    best = []
    for image in gt["images"]:
        for category in CATEGORY_IDS:  # COCO's limit is per image and class
            mine = [
                d
                for d in detections
                if (d["image_id"], d["category_id"]) == (image["id"], category)
            ]
            best += sorted(mine, key=lambda d: -d["score"])[:12]
    assert len(best) < len(detections)
    limited = evaluate_detections(gt, detections, max_dets=12)
    np.testing.assert_allclose(
        list(limited.values()), _pycocotools_stats(gt, best), rtol=0, atol=1e-6
    )
    with pytest.raises(InputError, match="max_dets must be more than 10, got 5"):
        evaluate_detections(gt, detections, max_dets=5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_score_zero(backend, caplog):
    gt = random_ground_truth()
    scores = evaluate_detections(gt, [], backend, per_class=True)
    assert set(scores.values()) == {0.0}
    assert "no detections at all" in caplog.text


def test_falls_back_to_the_next_evaluator(monkeypatch, caplog):
    def missing():
        raise ImportError("no such module")

    gt = random_ground_truth()
    monkeypatch.setitem(BACKENDS, "hotcoco", missing)
    with caplog.at_level("INFO"):
        evaluate_detections(gt, random_detections(gt))
    assert "by pycocotools" in caplog.text
    with pytest.raises(InputError, match="pip install hotcoco"):
        evaluate_detections(gt, [], "hotcoco")


def test_classes_of_one_name_have_a_score_each():
    gt = random_ground_truth(2)
    detections = random_detections(gt)
    named = evaluate_detections(gt, detections, per_class=True)
    for category in gt["categories"][1:3]:
        category["name"] = "bird"
    scores = evaluate_detections(gt, detections, per_class=True)
    assert list(scores)[12:] == ["AP-class2", "AP-bird (5)", "AP-bird (11)", "AP-class40"]
    assert list(scores.values()) == list(named.values())
    rows = class_rows(load_ground_truth(gt), [scores], [Group("a", (0,))])
    assert [(row["name"], row["ap"]) for row in rows[1:3]] == [
        ("bird (5)", [(named["AP-class5"], None)]),
        ("bird (11)", [(named["AP-class11"], None)]),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_are_scored_a_few_at_a_time(backend, monkeypatch):
    gt = random_ground_truth(8)
    detections = random_detections(gt)
    gt["annotations"] = [a for a in gt["annotations"] if a["category_id"] != 5]
    expected = evaluate_detections(gt, detections, "pycocotools", per_class=True)
    monkeypatch.setattr(coco_scores, "CLASSES_AT_ONCE", 2)
    scores = evaluate_detections(gt, detections, backend, per_class=True)
    assert math.isnan(scores["AP-class5"])
    assert scores == pytest.approx(expected, nan_ok=True)


def test_many_classes_take_the_memory_of_those_with_objects():
    gt = random_ground_truth(9)
    detections = random_detections(gt)
    expected = evaluate_detections(gt, detections)
    gt["categories"] += [{"id": i, "name": str(i)} for i in range(1000, 21_000)]
    tracemalloc.start()
    arrays = precision_and_recall(load_ground_truth(gt), detections)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # COCO's own arrays have 2 GB
    assert main_scores(arrays) == pytest.approx(expected)


def test_ids_in_other_forms_meet(tmp_path):
    gt = random_ground_truth(3)
    detections = random_detections(gt)
    expected = evaluate_detections(gt, detections)
    for annotation in gt["annotations"][::2]:
        annotation |= {"image_id": str(annotation["image_id"])}
    gt["categories"][0]["id"] = float(gt["categories"][0]["id"])
    assert evaluate_detections(gt, detections) == expected
    for detection in detections:
        detection |= {"image_id": f"{detection['image_id']}", "category_id": "2"}
    (tmp_path / "results.json").write_text(json.dumps(detections), encoding="utf-8-sig")
    loaded = load_detections(tmp_path / "results.json", load_ground_truth(gt))
    assert (
        {type(d["image_id"]) for d in loaded} == {int} == {type(d["category_id"]) for d in loaded}
    )


def test_areas_that_are_not_the_objects_are_said(caplog):
    gt = random_ground_truth(3)
    for annotation in gt["annotations"]:
        w, h = annotation["bbox"][2:]
        annotation["area"] = w * h
    load_ground_truth(gt)
    assert not caplog.text
    for annotation in gt["annotations"]:
        annotation["area"] = 0
    scores = evaluate_detections(gt, random_detections(gt))
    count = len(gt["annotations"])
    assert f"{count} of {count} areas are not their objects'" in caplog.text
    assert math.isnan(scores["APm"]) and math.isnan(scores["APl"]) and scores["APs"] > 0


def scored(**change):
    detection = {"image_id": 100, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1.0, **change}
    evaluate_detections(random_ground_truth(), [detection])


def of_results(content):
    def action(tmp_path):
        (tmp_path / "results.json").write_text(content)
        load_detections(tmp_path / "results.json", random_ground_truth())

    return action


def of_ground_truth(content):
    def action(tmp_path):
        if content is not None:
            (tmp_path / "val.json").write_text(content)
        evaluate_detections(tmp_path / "val.json", [])

    return action


START = '[{"image_id": 100, "category_id": 2, '


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (lambda: scored(image_id=333), ["image_ids", "333"]),
        (lambda: scored(category_id=999), ["category_ids", "999"]),
        (
            of_results('[{"image_id": 3, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1}]'),
            ["results.json: ", "image_id", "3"],
        ),
        (of_results(START + '"bbox": [0, 0, 5], "score": 1}]'), ["results.json: "]),
        (of_results(START + '"bbox": [0, 0, 5, 5]}]'), ["results.json: "]),
        (of_results('{"images": []}'), ["results.json: "]),
        (of_results("["), ["results.json: "]),
        (of_results(START + '"bbox": [0, 0, NaN, 5], "score": 1}]'), ["results.json: ", "finite"]),
        (of_results(START + '"bbox": [0, 0, 5, 5], "score": NaN}]'), ["results.json: ", "finite"]),
        (of_results(START + '"bbox": [0, 0, 5, 5], "score": true}]'), ["results.json: ", "finite"]),
        (of_results(START + '"bbox": [0, false, 5, 5], "score": 1}]'), ["entry 0", "finite"]),
        (of_ground_truth(None), ["val.json: ", "not found"]),
        (of_ground_truth("{"), ["val.json: ", "JSON"]),
        (of_ground_truth("{}"), ["val.json: ", "COCO", "'images'"]),
        (of_ground_truth("[]"), ["val.json: ", "COCO"]),
        (of_ground_truth('{"images": [{}], "categories": []}'), ["val.json: images", "'id'"]),
    ],
)
def test_results_and_ground_truth_that_do_not_fit_are_named(request, action, names):
    assert_refused(request, action, *names)
