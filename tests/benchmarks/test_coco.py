from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coco


def test_both_sides_score_the_same():
    truth, results = coco.synthetic(images=30)
    assert len(results) == 30 * coco.DETECTIONS
    assert {annotation["iscrowd"] for annotation in truth["annotations"]} == {0, 1}
    first = dict(results[0])
    base, fast = coco.plain(truth, results), coco.ours(truth, results)
    assert results[0] == first, "the results must stay as they were"
    assert np.abs(base[2] - fast[2]).max() < 1e-9
    assert (base[2] > 1).all() and (base[2] < 90).all()
    assert 0 < base[0] < base[1] and 0 < fast[0]


def test_a_difference_is_an_error(monkeypatch):
    monkeypatch.setattr(coco, "IMAGES", 5)
    monkeypatch.setattr(coco, "synthetic", lambda make=coco.synthetic: make(images=5))
    rows = coco.run(repeats=1)
    assert [row["ratio"] == row["baseline_s"] / row["ours_s"] for row in rows] == [True, True]
    monkeypatch.setattr(coco, "ours", lambda *data: (1.0, 1.0, np.zeros(12)))
    with pytest.raises(ValueError, match="twelve numbers differ"):
        coco.run(repeats=1)
