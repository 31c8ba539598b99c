"""LVIS's federated scores against plain loops over classes and images."""

from __future__ import annotations

import random

import numpy as np
import pytest

from detrex.evaluation.coco_json import load_ground_truth
from detrex.evaluation.lvis import _KEYS, SCORES, lvis_scores
from detrex.utils.errors import InputError
from tests.evaluation.test_crowd_scores import iou

pytest.importorskip("hotcoco")
IOUS = np.arange(0.5, 0.96, 0.05).round(2)


def miniature(seed: int) -> tuple[dict, list[dict]]:
    """Six images and five classes, and detections of all classes in all images."""
    numbers = random.Random(seed)
    images, annotations, detections = [], [], []
    for i in range(1, 7):
        present = numbers.sample(range(1, 6), 2)
        absent = [c for c in range(1, 6) if c not in present]
        image = {"id": i, "width": 100, "height": 100, "neg_category_ids": absent[:1]}
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{i:012d}.jpg"
        image["not_exhaustive_category_ids"] = present[:1] if i % 2 else []
        images.append(image)
        for category in [*present, *present]:
            box = [numbers.uniform(0, 60), numbers.uniform(0, 60), 30, 30]
            annotations.append({"image_id": i, "category_id": category, "bbox": box, "area": 900})
            near = [box[0] + numbers.uniform(-6, 6), box[1], 30, 30]
            detections.append((i, category, near, numbers.random()))
        for category in range(1, 6):
            box = [numbers.uniform(0, 60), numbers.uniform(0, 60), 30, 30]
            detections.append((i, category, box, numbers.random()))
    categories = [{"id": c, "name": f"c{c}", "frequency": "rccff"[c - 1]} for c in range(1, 6)]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    keys = ("image_id", "category_id", "bbox", "score")
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return truth, [dict(zip(keys, row, strict=True)) for row in detections]


def plain_ap(truth: dict, detections: list[dict], category: int, threshold: float) -> float:
    outcomes, total = [], 0
    for image in truth["images"]:
        of_image = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        free = [a["bbox"] for a in of_image if a["category_id"] == category]
        total += len(free)
        if not free and category not in image["neg_category_ids"]:
            continue
        found = [
            d for d in detections if d["image_id"] == image["id"] and d["category_id"] == category
        ]
        for d in sorted(found, key=lambda d: -d["score"]):
            best = max(free, key=lambda b: iou(d["bbox"], b), default=None)
            if best is not None and iou(d["bbox"], best) >= threshold:
                free.remove(best)
                outcomes.append((d["score"], True))
            elif category not in image["not_exhaustive_category_ids"]:
                outcomes.append((d["score"], False))
    outcomes.sort(key=lambda o: -o[0])
    hits = np.cumsum([hit for _, hit in outcomes])
    precision = hits / np.arange(1, len(hits) + 1)
    levels = []
    for recall in np.linspace(0, 1, 101):
        reached = precision[hits / total >= recall]
        levels.append(reached.max() if len(reached) else 0)
    return 100 * float(np.mean(levels))


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_plain_loops(seed):
    truth, detections = miniature(seed)
    scores = lvis_scores(load_ground_truth(truth, _KEYS), detections)
    classes = sorted({a["category_id"] for a in truth["annotations"]})
    table = {c: [plain_ap(truth, detections, c, t) for t in IOUS] for c in classes}

    def mean(*chosen: int) -> float:
        return np.mean([table[c] for c in chosen if c in table])

    expected = {"AP": mean(*classes), "APr": mean(1), "APc": mean(2, 3), "APf": mean(4, 5)}
    expected |= {"AP50": np.mean([r[0] for r in table.values()])}
    expected |= {"AP75": np.mean([r[5] for r in table.values()])}
    assert {k: scores[k] for k in expected} == pytest.approx(expected)
    assert tuple(scores) == SCORES and np.isnan(scores["APl"])


def test_detections_of_classes_that_were_not_looked_for_do_not_count():
    truth, detections = miniature(0)
    image = truth["images"][0]
    looked_for = {a["category_id"] for a in truth["annotations"] if a["image_id"] == 1}
    (other, *_) = {1, 2, 3, 4, 5} - looked_for - set(image["neg_category_ids"])
    more = {"image_id": 1, "category_id": other, "bbox": [0, 0, 9, 9], "score": 1}
    ground_truth = load_ground_truth(truth, _KEYS)
    before = lvis_scores(ground_truth, detections)
    assert lvis_scores(ground_truth, [*detections, more]) == pytest.approx(before, nan_ok=True)
    more["category_id"] = image["neg_category_ids"][0]
    assert lvis_scores(ground_truth, [*detections, more])["AP"] < before["AP"]


def test_ground_truth_without_the_keys_is_refused():
    truth, detections = miniature(0)
    del truth["categories"][2]["frequency"]
    with pytest.raises(InputError, match="mini.json: categories: id 3 has no 'frequency'"):
        lvis_scores(load_ground_truth(truth, _KEYS), detections, name="mini.json")
