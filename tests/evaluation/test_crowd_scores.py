"""CrowdHuman's scores against the plain loops of their definitions."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest

from detrex.evaluation.coco_json import load_ground_truth
from detrex.evaluation.crowd import MISS_RATE_AT, crowd_scores
from detrex.utils.errors import InputError


def overlap(a, b) -> float:
    sides = [min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0)


def iou(a, b) -> float:
    common = overlap(a, b)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def in_regions(box, regions) -> bool:
    return any(overlap(box, r) / (box[2] * box[3]) >= 0.5 for r in regions)


def plain_scores(people, regions, detections) -> dict[str, float]:
    """Arguments: image id -> boxes; detections: image id -> [(score, box)]."""
    outcomes = []
    for image, boxes in people.items():
        free = list(boxes)
        for score, box in sorted(detections[image], key=lambda d: -d[0]):
            best = max(free, key=lambda b: iou(box, b), default=None)
            if best is not None and iou(box, best) >= 0.5:
                free.remove(best)
                outcomes.append((score, True))
            elif not in_regions(box, regions[image]):
                outcomes.append((score, False))
    outcomes.sort(key=lambda o: -o[0])
    total, points = sum(map(len, people.values())), []
    for k in range(1, len(outcomes) + 1):
        hits = sum(hit for _, hit in outcomes[:k])
        points.append((hits / total, hits / k, (k - hits) / len(people)))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:], strict=False))
    logs = []
    for limit in MISS_RATE_AT:
        recall = next((r for r, _, fppi in points if fppi >= limit), points[-1][0])
        logs.append(math.log(max(1 - recall, 1e-10)))
    rates = [plain_jaccard(people, regions, detections, k / 10) for k in range(10)]
    values = {"AP": area, "MR": math.exp(sum(logs) / 9), "JI": max(rates), "recall": points[-1][0]}
    return {name: 100 * value for name, value in values.items()}


def plain_jaccard(people, regions, detections, limit) -> float:
    """The largest matching by trying all."""
    ratios = []
    for image, boxes in people.items():
        chosen = [box for score, box in detections[image] if score >= limit]
        short, long = sorted((chosen, boxes), key=len)
        matches = max(
            sum(iou(a, b) >= 0.5 for a, b in zip(short, order, strict=True))
            for order in permutations(long, len(short))
        )
        outside = [box for box in chosen if not in_regions(box, regions[image])]
        total = len(outside) + len(boxes) - matches
        ratios.append(matches / total)
    return sum(ratios) / len(ratios)


def boxes(numbers: random.Random, count: int) -> list[list[float]]:
    return [[numbers.uniform(5, 20), numbers.uniform(5, 20), 10, 20] for _ in range(count)]


def as_coco(people, regions, detections, classes=("person",)):
    images = [{"id": i, "file_name": "a", "width": 200, "height": 200} for i in people]
    rows = [(i, b, 0) for i in people for b in people[i]]
    rows += [(i, b, 1) for i in people for b in regions[i]]
    annotations = [
        {"id": k, "image_id": i, "category_id": 1, "bbox": b, "iscrowd": crowd}
        for k, (i, b, crowd) in enumerate(rows)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    found = [
        {"image_id": i, "category_id": 1, "bbox": b, "score": s}
        for i in detections
        for s, b in detections[i]
    ]
    return load_ground_truth(truth), found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_regions", [False, True])
def test_scores_are_those_of_the_plain_loops(seed, with_regions):
    numbers = random.Random(seed)
    people = {i: boxes(numbers, numbers.randint(1, 5)) for i in range(5)}
    # regions away from people: a detection in one that matches nobody does not count
    regions = {i: [[40, 0, 20, 60]] if with_regions else [] for i in people}
    detections = {}
    for i, real in people.items():
        near = [[x + numbers.uniform(-4, 4), y, w, h] for x, y, w, h in real]
        extra = [*boxes(numbers, 1), [42, 5, 10, 20]]
        detections[i] = [(numbers.random(), box) for box in near + extra]
    scores = crowd_scores(*as_coco(people, regions, detections))
    assert scores == pytest.approx(plain_scores(people, regions, detections))
    assert 0 < scores["AP"] < 100 and 0 < scores["MR"] < 100


def test_perfect_and_empty_detections():
    numbers = random.Random(0)
    people = {i: [[40 * k, 0, 10, 20] for k in range(3)] for i in range(3)}
    regions = {i: [] for i in people}
    perfect = {i: [(numbers.random(), box) for box in people[i]] for i in people}
    scores = crowd_scores(*as_coco(people, regions, perfect))
    assert scores["JI"] == scores["recall"] == 100 and scores["MR"] < 1e-6
    # the trapezoids begin at the first detection, as in the data set's tools
    assert scores["AP"] == pytest.approx(100 * 8 / 9)
    nothing = crowd_scores(*as_coco(people, regions, {i: [] for i in people}))
    assert nothing == {"AP": 0, "MR": 100, "JI": 0, "recall": 0}


def test_boxes_are_cut_off_at_the_edge_of_the_image():
    person, cut = [-30, 10, 40, 20], [0, 10, 10, 20]
    scores = crowd_scores(*as_coco({1: [person]}, {1: []}, {1: [(0.9, cut)]}))
    assert scores["recall"] == scores["JI"] == 100


def test_several_classes_are_refused():
    truth, found = as_coco({1: []}, {1: []}, {1: []}, classes=("person", "dog"))
    with pytest.raises(InputError, match="of one class, the data have several: person, dog"):
        crowd_scores(truth, found)
