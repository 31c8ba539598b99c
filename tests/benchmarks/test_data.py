from __future__ import annotations

import functools

import pytest
from detectron2.data import transforms as T

from benchmarks import data
from benchmarks.baseline.data import plain_mapper
from detrex.data import DetrDatasetMapper


def test_mappers_are_compared_sample_by_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PHOTOGRAPHS", ("chelsea",))
    (record,) = data.photographs(tmp_path, size=(64, 48))
    assert len(record["annotations"]) == data.OBJECTS
    moves = [T.RandomFlip(), T.ResizeShortestEdge((40, 60))], None
    baseline = functools.partial(
        plain_mapper, augmentation=moves[0], augmentation_with_crop=moves[1]
    )
    levels = [data.compare(baseline, DetrDatasetMapper(*moves), record, s) for s in range(5)]
    assert set(levels) <= {0, 1}

    def brighter(sample):
        return (out := baseline(sample)) | {"image": out["image"].clamp(0, 200) + 2}

    def shifted(sample):
        out = baseline(sample)
        out["instances"].gt_boxes.tensor += 1
        return out

    with pytest.raises(ValueError, match="grey levels"):
        data.compare(baseline, brighter, record, 0)
    with pytest.raises(ValueError, match="boxes differ"):
        data.compare(baseline, shifted, record, 0)


def test_rows_hold_both_sides(monkeypatch):
    monkeypatch.setattr(data, "DRAWS", 1)
    monkeypatch.setattr(data, "PHOTOGRAPHS", ("chelsea",))
    rows = data.run(repeats=1)
    assert len(rows) == 3
    for row in rows:
        assert row["ratio"] == row["baseline_s"] / row["ours_s"] > 0
        assert row["max_grey_levels"] <= 1
