from __future__ import annotations

from benchmarks import alignment


def test_all_images_are_measured(monkeypatch):
    seconds, report = alignment.measure(images=8, detections=40)
    assert seconds > 0 and report.images == 8 and 5 < report.last.scores["AP"] < 100
    samples = sum(map(sum, report.last.density)) + sum(report.last.histograms["unmatched"])
    assert samples == 8 * 40
