"""The meter of scores against plain loops and cases worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from detrex.evaluation.alignment import diagnosis_of_results
from detrex.evaluation.calibration import CalibrationMeter, load_calibration, summarise
from detrex.evaluation.calibration.reliability import mean_over_classes
from detrex.evaluation.calibration.sums import THRESHOLDS
from detrex.evaluation.matching import Truth
from detrex.utils.errors import InputError
from tests.evaluation import plain_calibration as plain
from tests.evaluation.random_coco import CATEGORY_IDS, random_detections, random_ground_truth

CLASSES = range(len(CATEGORY_IDS))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(images for the plain loops, report) of the same random data."""
    gt = random_ground_truth()
    results = random_detections(gt)
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "val.json").write_text(json.dumps(gt))
    (folder / "results.json").write_text(json.dumps(results))
    report = diagnosis_of_results(folder / "results.json", folder / "val.json").calibration
    return plain.images_of(gt, results), report


def groups(report):
    """(label for the plain loops, group)."""
    return zip([None, *CLASSES], [report.overall, *report.classes], strict=True)


def test_counts(measured):
    images, report = measured
    assert report.images == len(images) == 25
    for label, group in groups(report):
        assert group.detections == len(plain.records(images, label))
        objects = [o for image in images for o in image[2] if label in (None, o["label"])]
        assert group.objects == len(objects) > 20


def test_calibration_errors_equal_plain_loops(measured):
    images, report = measured
    by_class = [plain.errors(plain.records(images, k)) for k in CLASSES]
    for expected, group in zip(by_class, report.classes, strict=True):
        assert {k: v[0] for k, v in group.errors.items()} == pytest.approx(expected)
    expected = {name: np.mean([e[name] for e in by_class]) for name in ("LaECE0", "LaACE0")}
    expected["D-ECE"] = plain.errors(plain.records(images))["D-ECE"]
    assert {k: v[0] for k, v in report.overall.errors.items()} == pytest.approx(expected)
    assert all(0.05 < value < 0.6 for value in expected.values())


def test_shown_errors_are_those_from_the_threshold_on(measured):
    images, report = measured
    shown = []
    for label, group in zip(CLASSES, report.classes, strict=True):
        threshold = math.floor(group.operating_points["LRP"]["score"] * 100 + 1e-6) / 100
        rows = [row for row in plain.records(images, label) if row[1] >= threshold]
        assert {k: v[0] for k, v in group.shown_errors.items()} == pytest.approx(plain.errors(rows))
        shown += rows
    assert 0 < len(shown) < report.overall.detections
    assert report.overall.shown_errors["D-ECE"][0] == pytest.approx(plain.errors(shown)["D-ECE"])


def test_intervals_are_a_bootstrap_over_images(measured):
    images, report = measured
    rows = {}
    for row in plain.records(images):
        rows.setdefault(row[0], []).append(row)
    draws = {image[0]: np.random.default_rng(image[0]).poisson(1, 200) for image in images}
    values = []
    for replicate in range(200):
        drawn = [rows.get(i, []) * int(counts[replicate]) for i, counts in draws.items()]
        values.append(plain.errors([row for image in drawn for row in image])["D-ECE"])
    values.sort()
    _, low, high = report.overall.errors["D-ECE"]
    assert (low, high) == pytest.approx((values[5], values[194]), abs=1e-6)
    assert low < report.overall.errors["D-ECE"][0] < high


def test_the_interval_of_a_mean_is_the_textbook_one():
    """500 images with one detection each, right with probability p = 0.6: p +- 1.96 deviations."""
    random, meter = np.random.default_rng(0), CalibrationMeter(1)
    box = np.array([[0.0, 0, 10, 10]])
    for image in range(500):
        shift = 0 if random.random() < 0.6 else 100
        truth = truth_of(box + shift, [0])
        meter.update(image, box, np.array([0.5]), np.array([0]), truth)
    columns = summarise(meter, ["a"], {}).overall.reliability
    width = 1.96 * math.sqrt(0.24 / 500)
    mean, low, high = (columns[k][12] for k in ("precision", "precision_low", "precision_high"))
    assert mean == pytest.approx(0.6, abs=0.05)
    assert mean - low == pytest.approx(width, rel=0.25)
    assert high - mean == pytest.approx(width, rel=0.25)


def test_reliability_is_by_bin(measured):
    images, report = measured
    for label, group in groups(report):
        rows = plain.records(images, label)
        counts = np.array(group.reliability["count"])
        assert counts.sum() == len(rows) and np.count_nonzero(counts) > 15
        for bin_ in (0, 8, 20, 24):
            members = [
                r
                for r in rows
                if bin_ * 4 <= math.floor(min(r[1], 0.99) * 100 + 1e-6) < bin_ * 4 + 4
            ]
            expected = [len(members), *np.mean(members, 0)[1:]] if members else [0] + [math.nan] * 3
            column = [group.reliability[k][bin_] for k in ("count", "score", "precision", "iou")]
            np.testing.assert_allclose(column, expected)


def test_operating_points_are_the_best_of_all_thresholds(measured):
    images, report = measured
    candidates = sorted({round(d["score"], 2) for image in images for d in image[1]})
    for label, group in groups(report):
        table = {t: plain.operating_point(images, label, t) for t in candidates}
        lrp = min(table, key=lambda t: (table[t]["LRP"], -t))
        f1 = max(table, key=lambda t: (table[t]["F1"], t))
        for name, best in (("LRP", lrp), ("F1", f1)):
            point = group.operating_points[name]
            assert point.pop("score") == pytest.approx(best)
            assert point == pytest.approx(table[best])
            point["score"] = best
        for t in (0, 30, 77):
            row = plain.operating_point(images, label, t / 100)
            right = group.curve["right"][t]
            assert right / group.objects == pytest.approx(row["recall"])
            assert group.curve["wrong"][t] / report.images == pytest.approx(row["false_positives"])
            assert 1 - group.curve["inaccuracy"][t] / right == pytest.approx(row["iou"])


def test_duplicates_equal_plain_loops(measured):
    images, report = measured
    for label, group in groups(report):
        for i in (0, 5, 11, 18):
            for level in (0.5, 0.7, 0.9):
                share, pairs, copies = plain.duplicates(images, label, THRESHOLDS[i], level)
                values = [group.duplicates[f"{k} {level}"][i] for k in ("share", "pairs")]
                expected = [share, pairs, copies]
                np.testing.assert_allclose([*values, group.duplicates["per object"][i]], expected)
    assert 0.01 < report.overall.duplicates["share 0.5"][0] < 0.9


def test_confusion_equals_plain_loops_and_adds_up(measured):
    images, report = measured
    background = len(CLASSES)
    assert list(report.confusion) == ["0.1", "0.3", "0.5", "0.7"]
    for threshold, cells in report.confusion.items():
        assert cells == plain.confusion(images, background, float(threshold))
        for k, group in enumerate(report.classes):
            assert sum(n for row, _, n in cells if row == k) == group.objects
            shown = [d for i in images for d in i[1] if d["score"] >= float(threshold)]
            assert sum(n for _, column, n in cells if column == k) == sum(
                d["label"] == k for d in shown
            )
    assert any(0 <= row < background > column != row for row, column, _ in report.confusion["0.3"])


def test_error_costs_equal_plain_loops(measured):
    images, report = measured
    rows, missed = plain.error_table(images)
    by_class = [plain.costs(images, k) for k in CLASSES]
    for k, group in enumerate(report.classes):
        assert group.costs == pytest.approx(by_class[k])
        kinds = [kind for _, label, kind, _ in rows if label == k and kind]
        for kind in set(group.counts) - {"missed"}:
            assert group.counts[kind] == kinds.count(kind) > 0
        assert group.counts["missed"] == missed.count(k)
    for name, cost in report.overall.costs.items():
        assert cost == pytest.approx(np.mean([costs[name] for costs in by_class]))
        assert name == "duplicate" or cost > 0.3


def test_precision_recall_is_what_ap_is_the_mean_of(measured):
    _, report = measured
    for group in report.classes:
        assert list(group.precision_recall) == ["0.5", "0.75", "0.9"]
        ap = np.mean(group.precision_recall["0.5"])
        assert ap == pytest.approx(group.costs["AP50"], abs=2)  # there, equal scores count at once


# --- by hand


def truth_of(boxes, labels, crowd=(), crowd_labels=()):
    boxes = np.array(boxes, float).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    crowd = np.array(crowd, float).reshape(-1, 4)
    return Truth(boxes, np.array(labels, int), areas, crowd, np.array(crowd_labels, int), (99, 99))


def report_of(detections, truth, classes=2):
    """The report on one image with detections (box, score, label)."""
    meter = CalibrationMeter(classes)
    boxes, scores, labels = zip(*detections, strict=True) if detections else ([], [], [])
    arrays = np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int)
    meter.update(1, *arrays, truth)
    return summarise(meter, [f"class{k}" for k in range(classes)], {})


BOX, CLOSE, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 3], [50, 50, 60, 60]


@pytest.mark.parametrize(
    ("detection", "kind"),
    [
        ((CLOSE, 0.5, 1), "classification"),
        ((NEAR, 0.5, 0), "localisation"),
        ((NEAR, 0.5, 1), "both"),
        ((FAR, 0.5, 0), "background"),
    ],
)
def test_kind_of_a_lone_error(detection, kind):
    group = report_of([detection], truth_of([BOX], [0])).overall
    mends = kind in ("classification", "localisation")
    assert {k: n for k, n in group.counts.items() if n} == (
        {kind: 1} if mends else {kind: 1, "missed": 1}
    )
    assert group.costs[kind] == (100 if mends else 0)


def test_a_second_box_is_a_duplicate_and_costs_nothing_behind_the_first():
    group = report_of([(BOX, 0.9, 0), (CLOSE, 0.8, 0)], truth_of([BOX], [0])).overall
    assert group.counts["duplicate"] == 1 and sum(group.counts.values()) == 1
    assert group.costs["AP50"] == 100 and group.costs["duplicate"] == 0
    assert group.duplicates["share 0.9"][14] == 0.5 and group.duplicates["pairs 0.9"][14] == 1
    assert group.duplicates["share 0.9"][16] == 0  # from 0.85 on only the first is there
    assert group.duplicates["per object"][14] == 2


def test_a_duplicate_before_another_object_costs_precision():
    boxes = [(BOX, 0.9, 0), (CLOSE, 0.8, 0), (FAR, 0.7, 0)]
    group = report_of(boxes, truth_of([BOX, FAR], [0, 0])).overall
    # recalls 0 ... 0.5 have precision 1, the 50 above 2/3
    assert group.costs["AP50"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    assert group.costs["duplicate"] == pytest.approx(100 - group.costs["AP50"])


def test_an_object_is_mended_once():
    """Of two boxes too far off the better-scored becomes right, the other vanishes."""
    boxes = [(NEAR, 0.9, 0), (NEAR, 0.8, 0), (FAR, 0.7, 0)]
    group = report_of(boxes, truth_of([BOX], [0])).overall
    assert group.counts["localisation"] == 2 and group.costs["localisation"] == 100


def test_calibration_by_hand():
    """One right box of IoU 0.9 at score 0.9, one wrong at 0.3."""
    group = report_of([(CLOSE, 0.9, 0), (FAR, 0.3, 0)], truth_of([BOX], [0])).classes[0]
    assert group.errors["D-ECE"][0] == pytest.approx((0.1 + 0.3) / 2)
    assert group.errors["LaECE0"][0] == pytest.approx((0 + 0.3) / 2)
    assert group.errors["LaACE0"][0] == pytest.approx(0.15)
    assert group.shown_errors["LaECE0"][0] == pytest.approx(0)
    assert all(map(math.isnan, group.errors["D-ECE"][1:]))  # one image: no interval
    point = group.operating_points["F1"]
    assert (point["score"], point["precision"], point["recall"]) == (0.9, 1, 1)
    assert point["iou"] == pytest.approx(0.9) and point["false_positives"] == 0


def test_detections_in_a_crowd_do_not_count():
    truth = truth_of([FAR], [0], [[0, 0, 20, 20]], [0])
    report = report_of([(BOX, 0.9, 0), (BOX, 0.8, 1)], truth)
    assert [group.detections for group in report.classes] == [0, 1]


def test_a_class_without_data_has_no_numbers():
    report = report_of([(BOX, 0.9, 0)], truth_of([BOX, BOX], [0, 1]), classes=3)
    without_detection, without_anything = report.classes[1:]
    for group in (without_detection, without_anything):
        assert math.isnan(group.errors["D-ECE"][0]) and group.detections == 0
        assert math.isnan(group.operating_points["F1"]["score"])
    assert report.overall.costs["AP50"] == 50  # of the two classes with objects
    assert report.overall.errors["LaACE0"][0] == pytest.approx(0.1)
    empty = report_of([], truth_of([], []))
    assert empty.images == 1 and math.isnan(empty.overall.errors["D-ECE"][0])
    assert math.isnan(empty.overall.operating_points["LRP"]["score"])


def test_mean_over_classes_leaves_out_the_unknown():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [100.0, 7.0]])
    means = mean_over_classes(values, np.array([True, True, False]))
    np.testing.assert_array_equal(means, [2, np.nan])


def test_meters_add_up():
    gt = random_ground_truth(3, 6)
    images = plain.images_of(gt, random_detections(gt))
    meters = [CalibrationMeter(len(CLASSES)) for _ in range(3)]
    for number, (image_id, detections, objects, _) in enumerate(images):
        arrays = [np.array([d[k] for d in detections]) for k in ("box", "score", "label")]
        arrays[0] = arrays[0].reshape(-1, 4)
        truth = truth_of([o["box"] for o in objects], [o["label"] for o in objects])
        for meter in (meters[0], meters[1 + number % 2]):
            meter.update(image_id, *arrays, truth)
    meters[1].merge(meters[2])
    for name, value in meters[0].sums.items():
        np.testing.assert_allclose(meters[1].sums[name], value, rtol=1e-5, atol=1e-5)
        assert value.any(), name
    assert meters[1].confusion == meters[0].confusion != {}


def test_memory_does_not_grow_with_the_data():
    random, meter = np.random.default_rng(0), CalibrationMeter(2)
    sizes = {name: value.nbytes for name, value in meter.sums.items()}
    for image in range(200):
        boxes, labels = random.uniform(0, 50, (30, 2)), random.integers(0, 2, 30)
        boxes = np.concatenate([boxes, boxes + 20], 1)
        meter.update(image, boxes, random.random(30), labels, truth_of(boxes[::3], labels[::3]))
    assert {name: value.nbytes for name, value in meter.sums.items()} == sizes
    assert len(meter.confusion) <= 4 * 3 * 2  # thresholds, true classes, predicted ones


def test_report_survives_json(measured, tmp_path):
    _, report = measured
    report.save(tmp_path)
    path = tmp_path / "calibration.json"
    text = path.read_text()
    assert "NaN" not in text and load_calibration(path).to_dict() == report.to_dict()
    scalars = report.scalars()
    assert scalars["D-ECE"] == report.overall.errors["D-ECE"][0]
    assert scalars["F1_threshold"] == report.overall.operating_points["F1"]["score"]
    below = [step for step in range(1, 20) if step / 20 <= scalars["F1_threshold"] + 1e-9]
    assert scalars["duplicates"] == report.overall.duplicates["share 0.7"][below[-1] - 1]
    ends = [report.overall.duplicates_at(x) for x in (0.0, 0.05, 0.099, 0.95, 1.0)]
    column = report.overall.duplicates["share 0.7"]
    assert ends == [column[0]] * 3 + [column[18]] * 2
    assert math.isnan(report.overall.duplicates_at(math.nan))
    background = f"[{len(CLASSES)}, "
    for content, message in (
        ("{}", "images is missing"),
        ('{"format": 7}', "format 7, this version reads 1"),
        (text.replace('"D-ECE"', '"A"'), "errors is missing or damaged"),
        (text.replace('"objects": ', '"objects": "x", "a": ', 1), "objects is missing"),
        (text.replace(background, "[99, "), "confusion is damaged"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=f"calibration.json: .*{message}"):
            load_calibration(path)
