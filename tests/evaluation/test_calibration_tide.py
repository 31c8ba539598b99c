"""Kinds of error and what they cost, against TIDE's own package where that is installed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detrex.evaluation.alignment import diagnosis_of_results
from tests.evaluation.random_coco import random_detections, random_ground_truth

tidecv = pytest.importorskip("tidecv")

NAMES = {
    "Cls": "classification",
    "Loc": "localisation",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
    "FalsePos": "false_positives",
    "FalseNeg": "false_negatives",
}


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_tidecv(tmp_path, seed):
    gt = random_ground_truth(seed, images=15)
    for annotation in gt["annotations"]:
        annotation["iscrowd"] = 0
    by_image = {}
    for detection in random_detections(gt, seed + 1):
        by_image.setdefault(detection["image_id"], []).append(detection)
    results = [d for detections in by_image.values() for d in detections[:60]]  # tidecv counts 100
    scores = np.random.default_rng(seed).permutation(1000)[: len(results)] / 1000  # no two equal
    for detection, score in zip(results, scores.tolist(), strict=True):
        detection["score"] = score
    (tmp_path / "val.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    report = diagnosis_of_results(tmp_path / "results.json", tmp_path / "val.json").calibration

    truth, predicted = tidecv.Data("truth"), tidecv.Data("detections")
    for image in gt["images"]:
        truth.add_image(image["id"], str(image["id"]))  # also those without objects
    for a in gt["annotations"]:
        truth.add_ground_truth(a["image_id"], a["category_id"], a["bbox"])
    for d in results:
        predicted.add_detection(d["image_id"], d["category_id"], d["score"], d["bbox"])
    tide = tidecv.TIDE()
    run = tide.evaluate(truth, predicted, name="run", mode=tidecv.TIDE.BOX)
    errors = tide.get_main_errors()["run"] | tide.get_special_errors()["run"]
    costs = report.overall.costs
    assert costs["AP50"] == pytest.approx(run.ap, abs=0.25)
    # Its recall levels are k / 100, COCO's np.linspace's, which differ by rounding: a recall of
    # just that is above one and below the other, which is 0.25 points in one of four classes.
    assert {NAMES[name]: cost for name, cost in errors.items()} == pytest.approx(
        {name: costs[name] for name in NAMES.values()}, abs=0.25
    )
