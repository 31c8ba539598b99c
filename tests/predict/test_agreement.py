"""Scores, order and boxes of another runtime against PyTorch's."""

import numpy as np
import pytest

from detrex.predict.agreement import (
    TOLERANCE,
    Agreement,
    agreement,
    agreement_table,
    over_images,
    sample_images,
)
from detrex.predict.runtimes import Outputs, Runtime

SCORES = np.array([[0.9, 0.7, 0.5, 0.3, 0.1]])
LABELS = np.array([[0, 1, 0, 1, 0]])
BOXES = np.arange(20, dtype=float).reshape(1, 5, 4) * [1, 2, 3, 5]
EXPECTED = Outputs(SCORES, LABELS, BOXES)


def changed(order=(0, 1, 2, 3, 4), **fields):
    """The same detections with other values, then in another order."""
    outputs = EXPECTED._replace(**fields)
    return Outputs(*(x[:, list(order)] for x in outputs))


def test_equal_detections_agree_in_any_order_of_the_rows():
    for order in ((0, 1, 2, 3, 4), (4, 2, 0, 1, 3)):
        result = agreement(EXPECTED, changed(order), 100)
        assert result == Agreement(4, 0.0, 0.0, 0, 0, 1.0) and result.holds


def test_scores_that_change_places_are_counted_by_pairs():
    scores = np.array([[0.9, 0.4, 0.5, 0.6, 0.1]])  # the second to fourth turned round
    result = agreement(EXPECTED, changed(scores=scores), 100)
    assert result.score == pytest.approx(0.3) and result.box == 0
    assert result.order == 3 and result.tau == pytest.approx((3 - 3) / 6) and not result.holds


def test_near_ties_may_change_places():
    before = EXPECTED._replace(scores=np.array([[0.9, 0.5004, 0.5, 0.3, 0.1]]))
    after = before._replace(scores=np.array([[0.9, 0.5, 0.5004, 0.3, 0.1]]))
    result = agreement(before, after, 100)
    assert result.holds and result.order == 0 and result.tau == pytest.approx(4 / 6)


def test_boxes_and_classes_count():
    moved = BOXES.copy()
    moved[0, 2, 1] += 5
    result = agreement(EXPECTED, changed(boxes=moved), 100)
    assert result.box == pytest.approx(0.05) and result.score == 0 and not result.holds
    result = agreement(EXPECTED, changed(labels=np.array([[0, 1, 0, 0, 0]])), 100)
    assert result.labels == 1 and not result.holds


def test_the_last_detections_may_be_others():
    boxes, scores = BOXES.copy(), SCORES.copy()
    boxes[0, 4], scores[0, 4] = 99, SCORES[0, 4] + TOLERANCE / 2
    assert agreement(EXPECTED, changed(boxes=boxes, scores=scores), 100).holds


def test_what_is_not_finite_does_not_agree():
    scores = np.where(SCORES == 0.5, np.nan, SCORES)
    assert not agreement(EXPECTED, changed(scores=scores), 100).holds


def test_over_images_is_the_worst_of_them():
    offsets = {8: 0.0, 16: 0.01}
    other = Runtime(lambda pixels, sizes: changed(scores=SCORES + offsets[pixels.shape[3]]), None)
    images = [np.zeros((3, 8, side), np.uint8) for side in offsets]
    result = over_images(Runtime(lambda *inputs: EXPECTED, None), other, images)
    assert result == Agreement(8, pytest.approx(0.01), 0.0, 0, 0, 1.0)
    assert agreement_table({"x": result}).splitlines()[-1].split()[-1] == "NO"


def test_sample_images_are_pictures():
    assert [x.shape for x in sample_images()] == [(n, n, 3) for n in (256, 320, 400, 512)]
    assert all(x.std() > 5 for x in sample_images())
