"""The streaming meter against plain loops and hand-computed cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from detrex.evaluation.alignment import AlignmentMeter, Definitions, Truth, load_report
from detrex.evaluation.alignment.collector import AlignmentCollector, Detections
from detrex.evaluation.alignment.lrp import optimal_lrp
from detrex.evaluation.alignment.statistics import pearson, spearman_of_histogram
from detrex.evaluation.matching import match_greedily
from detrex.utils.errors import InputError
from tests.evaluation import plain_alignment as plain

CLASSES, LAYERS, SIZE = 3, 2, (480, 640)


def random_boxes(random, count):
    corner = random.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + random.uniform(10, 170, (count, 2))], 1)


def random_images(seed, count=12, queries=14):
    """[(boxes (L, N, 4), scores (L, N, K), gt boxes, gt labels)]; one image has no objects."""
    random, images = np.random.default_rng(seed), []
    for i in range(count):
        gt = random_boxes(random, 0 if i == 3 else random.integers(1, 5))
        layers = []
        for _ in range(LAYERS):
            near = [np.repeat(gt, 2, 0)] * bool(len(gt))
            guesses = np.concatenate([*near, random_boxes(random, queries - 2 * len(gt))])
            layers.append(guesses + random.normal(0, 6, guesses.shape))
        scores = random.uniform(0, 1, (LAYERS, queries, CLASSES)) ** 3
        images.append((np.array(layers), scores, gt, random.integers(0, CLASSES, len(gt))))
    return images


def truth(gt, labels, crowd=(), crowd_labels=()):
    areas = (gt[:, 2] - gt[:, 0]) * (gt[:, 3] - gt[:, 1])
    crowd = np.array(crowd, float).reshape(-1, 4)
    return Truth(gt, labels, areas, crowd, np.array(crowd_labels, int), SIZE)


def ground_truth(images):
    """The same objects as COCO JSON; category ids are 10, 20, 30."""
    annotations = [
        {
            "image_id": i,
            "category_id": 10 + 10 * int(label),
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "area": float(np.prod(box[2:] - box[:2])),
            "iscrowd": 0,
            "id": i * 100 + k + 1,
        }
        for i, (_, _, gt, labels) in enumerate(images)
        for k, (box, label) in enumerate(zip(gt, labels, strict=True))
    ]
    return {
        "info": {},
        "images": [{"id": i, "width": 640, "height": 480} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": 10 * (k + 1), "name": f"class{k}"} for k in range(CLASSES)],
    }


def collect(images, **definitions):
    collector = AlignmentCollector(
        ground_truth(images), [10, 20, 30], LAYERS, Definitions(**definitions)
    )
    for i, (boxes, scores, _, _) in enumerate(images):
        detections = [
            Detections(b, s.max(-1), s.argmax(-1)) for b, s in zip(boxes, scores, strict=True)
        ]
        collector.add(i, boxes, scores, detections)
    return collector


def test_numbers_equal_plain_loops():
    images = random_images(0)
    report = collect(images).report("queries")
    assert (report.images, report.objects) == (12, sum(len(gt) for _, _, gt, _ in images))
    for i, layer in enumerate(report.layers):
        one = [(boxes[i], scores[i], gt, labels, SIZE) for boxes, scores, gt, labels in images]
        expected = plain.measure(one)
        assert 0.05 < abs(expected["pearson"]) and 5 < expected["br_recall"]["1"] < 95
        matched = expected.pop("matched")
        for name, values in expected.pop("histograms").items():
            counts = np.histogram(values, 50, (0, 1))[0]
            assert layer.histograms[name] == counts.tolist()
        cells = np.histogram2d(*np.array(matched).T, 50, [(0, 1), (0, 1)])[0]
        np.testing.assert_array_equal(layer.density, cells)
        for name, value in expected.items():
            tolerance = 0.01 if name == "spearman" else 1e-6  # binned; the matcher is float32
            assert getattr(layer, name) == pytest.approx(value, abs=tolerance), name


def test_groups_are_the_classes_and_sizes():
    images = random_images(1)
    report = collect(images).report("queries")
    for k, group in enumerate(report.classes):
        assert (group.name, group.objects) == (
            f"class{k}",
            sum(int((labels == k).sum()) for _, _, _, labels in images),
        )
    sizes = [np.prod(gt[:, 2:] - gt[:, :2], 1) for _, _, gt, _ in images]
    small = sum(int((area < 32**2).sum()) for area in sizes)
    medium = sum(int((area < 96**2).sum()) for area in sizes) - small
    assert [g.name for g in report.sizes] == ["small", "medium", "large"]
    assert report.sizes[0].objects == small
    assert report.sizes[1].objects == medium > 0
    for groups in (report.classes, report.sizes):  # each object is in one class and one size
        seen = [g for g in groups if g.objects]
        total = sum(g.objects * g.matched_iou for g in seen) / report.objects
        assert total == pytest.approx(report.last.matched_iou)
    assert report.sizes[1].ap == report.last.scores["APm"]
    aps = [group.ap for group in report.classes]
    assert np.mean(aps) == pytest.approx(report.last.scores["AP"])
    assert np.mean(report.last.ap_by_iou) == pytest.approx(report.last.scores["AP"])


def test_optimal_lrp_equals_trying_every_threshold():
    images = random_images(2)
    images = [(boxes, scores.round(2), gt, labels) for boxes, scores, gt, labels in images]
    classes = collect(images).report("queries").classes
    for k, group in enumerate(classes):
        found = [
            [
                (s.max(), box)
                for s, box in zip(scores[-1], boxes[-1], strict=True)
                if s.argmax() == k
            ]
            for boxes, scores, _, _ in images
        ]
        objects = [gt[labels == k] for _, _, gt, labels in images]
        by_threshold = {t / 100: plain.lrp(found, objects, t / 100) for t in range(101)}
        best = min(values[0] for values in by_threshold.values())
        assert 0.3 < best < 1
        assert group.olrp == pytest.approx(100 * best)
        parts = (group.olrp_localisation, group.olrp_fp, group.olrp_fn)
        at = by_threshold[math.ceil(group.olrp_score * 100 - 1e-9) / 100]
        np.testing.assert_allclose(parts, 100 * np.array(at[1:]))


def test_lrp_by_hand():
    """Two objects; found: one at IoU 0.8, one FP above it: (0.2 / 0.5 + 1 + 1) / 3."""
    meter = AlignmentMeter(classes=2, layers=1)
    gt = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    boxes = np.array([[0.0, 0, 10, 8], [100, 100, 110, 110]])
    scores = np.array([[[0.4, 0], [0.9, 0]]])
    meter.update(boxes[None], scores, truth(gt, np.array([0, 0])))
    found = optimal_lrp(meter.sums["lrp"][0], meter.sums["objects"][:2])
    expected = {"oLRP": 0.8, "localisation": 0.2, "FP": 0.5, "FN": 0.5, "score": 0.4}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value, np.nan], err_msg=name)


def test_crowds_are_no_objects_and_no_mistakes():
    meter = AlignmentMeter(classes=1, layers=1)
    gt, crowd = np.array([[0.0, 0, 10, 10]]), [[100, 100, 200, 200]]
    boxes = np.array([[0.0, 0, 10, 10], [110, 110, 120, 120]])  # the second lies in the crowd
    meter.update(boxes[None], np.full((1, 2, 1), 0.5), truth(gt, np.array([0]), crowd, [0]))
    assert meter.sums["objects"][0] == 1
    assert optimal_lrp(meter.sums["lrp"][0], meter.sums["objects"][:1])["oLRP"] == 0


def test_coco_counts_a_hundred_detections_of_a_class():
    meter = AlignmentMeter(classes=2, layers=1)
    boxes = np.tile(np.array([50.0, 50, 60, 60]), (1, 150, 1))
    scores = np.zeros((1, 150, 2))
    scores[0, :120, 0], scores[0, 120:, 1] = 0.9, 0.8
    meter.update(boxes, scores, truth(np.array([[0.0, 0, 9, 9]]), np.array([0])))
    assert meter.sums["lrp"][0, :, :, 1].sum(1).tolist() == [100, 30]


def one_image(**definitions):
    """Three objects, four samples in order of confidence; sample 2 is best for objects 0 and 1."""
    gt = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [100, 100, 110, 110]])
    boxes = np.array([[0, 0, 10, 6], [100, 100, 110, 104], [0, 0, 10, 9.5], [300, 300, 310, 310]])
    scores = np.array([[0.9, 0.1], [0.1, 0.8], [0.2, 0.7], [0.6, 0.1]])
    meter = AlignmentMeter(2, 1, Definitions(**definitions))
    meter.update(boxes[None], scores[None], truth(gt[:2], np.array([0, 1])))
    meter.update(boxes[None], scores[None], truth(gt, np.array([0, 1, 1])))
    images, *recalls = meter.sums["br_images"][0]
    return images, recalls[0], recalls[1], meter.sums["br_objects"][0, :2].sum()


@pytest.mark.parametrize(
    "definitions, expected",
    [
        # images, sum of recall at N and at 2N, objects with a best-regressed sample
        ({}, (2, 0 + 1, 1 + 1, 5)),
        ({"min_iou": 0.92}, (2, 0 + 1, 1 + 1, 4)),  # object 2 is left out
    ],
)
def test_definitions_of_best_regressed(definitions, expected):
    images, *rest = one_image(**definitions)
    assert (images, *rest) == pytest.approx(expected)


@pytest.mark.parametrize(
    "definitions, message",
    [
        ({"min_iou": 1.5}, r"min_iou must be in \[0, 1\], got 1.5"),
        ({"candidate_iou": "high"}, r"candidate_iou must be in \[0, 1\], got 'high'"),
    ],
)
def test_other_definitions_are_refused(definitions, message):
    with pytest.raises(InputError, match=message):
        Definitions(**definitions)


def test_merged_meters_are_one_and_memory_does_not_grow():
    images = random_images(4)
    whole, first, second = (AlignmentMeter(CLASSES, LAYERS) for _ in range(3))
    for i, (boxes, scores, gt, labels) in enumerate(images):
        for meter in (whole, first if i < 5 else second):
            meter.update(boxes, scores, truth(gt, labels))
    size = sum(x.nbytes for x in AlignmentMeter(CLASSES, LAYERS).sums.values())
    first.merge(second)
    for name, value in whole.sums.items():
        np.testing.assert_allclose(first.sums[name], value, err_msg=name)
    assert sum(x.nbytes for x in whole.sums.values()) == size


def test_an_image_counts_once():
    images = random_images(5)
    collector = collect(images)
    before = collector.report("queries")
    boxes, scores, _, _ = images[0]
    collector.add(0, boxes, scores, [None, None])
    assert collector.report("queries") == before


def test_nothing_found_and_nothing_there():
    empty = np.zeros((1, 0, 4)), np.zeros((1, 0, 2))
    meter = AlignmentMeter(2, 1)
    meter.update(*empty, truth(np.array([[0.0, 0, 9, 9]]), np.array([1])))
    meter.update(*empty, truth(np.zeros((0, 4)), np.zeros(0, int)))
    lrp = optimal_lrp(meter.sums["lrp"][0], meter.sums["objects"][:2])
    np.testing.assert_array_equal(lrp["oLRP"], [np.nan, 1])
    np.testing.assert_array_equal(lrp["FN"], [np.nan, 1])
    assert math.isnan(pearson(meter.sums["matched"][0, 1]))
    assert math.isnan(spearman_of_histogram(meter.sums["density"][0]))


def test_a_diverged_model_is_measured_too():
    meter = AlignmentMeter(2, 1)
    boxes, scores = np.full((1, 3, 4), np.nan), np.full((1, 3, 2), np.nan)
    meter.update(boxes, scores, truth(np.array([[0.0, 0, 9, 9]]), np.array([1])))
    assert meter.sums["matched"][0, 1].tolist() == [1, 0, 0, 0, 0, 0]


def test_greedy_matching_gives_an_object_to_the_first():
    iou = np.array([[0.6, 0.55], [0.9, 0.0], [0.7, 0.8], [0.5, 0.5]])
    assert match_greedily(iou, 0.5).tolist() == [0, -1, 1, -1]


def test_report_survives_json(tmp_path):
    report = collect(random_images(6)).report("queries", {"annotations": "val.json"})
    report.save(tmp_path)
    text = (tmp_path / "alignment.json").read_text()
    assert "NaN" not in text and json.loads(text)["sizes"][0]["olrp"] is None
    assert load_report(tmp_path / "alignment.json").to_dict() == report.to_dict()
    scalars = report.scalars()
    assert scalars["br_recall_2N"] == report.last.br_recall["2"]
    assert scalars["AP_layer1"] == report.layers[0].scores["AP"]
    (tmp_path / "other.json").write_text('{"format": 7}')
    with pytest.raises(InputError, match="other.json: format 7, this version reads 1"):
        load_report(tmp_path / "other.json")
    for content, message in (
        ("[]", "holds a list"),
        ("{}", "not an alignment.json: kind is missing or damaged"),
        (text.replace('"AP50"', '"AP"').replace('"AP"', '"A"'), "lacks its AP"),
        (text.replace('"pearson": ', '"pearson": "x", "x": ', 1), "pearson of a LayerAlignment"),
    ):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(InputError, match=f"other.json: .*{message}"):
            load_report(tmp_path / "other.json")
