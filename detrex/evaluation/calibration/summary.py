"""A report from a meter's sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .duplicates import confusion, duplicates
from .errors import error_costs, error_counts
from .meter import CalibrationMeter
from .reliability import (
    ERRORS,
    bins_of,
    calibration_errors,
    cells_of_class,
    estimate,
    mean_over_classes,
    reliability,
)
from .report import CalibrationReport, GroupCalibration
from .thresholds import curve, operating_points, outcomes_from

PER_CLASS = ("objects", "missed", "outcomes", "duplicates", "copies")


def summarise(
    meter: CalibrationMeter,
    names: Sequence[str],
    precision_recall: dict[str, np.ndarray],
    source: dict[str, str] | None = None,
) -> CalibrationReport:
    """Return all numbers of a meter.

    Args:
        meter: with all images.
        names: of the classes (K).
        precision_recall: precision in percent (K, 101) by IoU threshold, as COCO's evaluator has
            it; NaN for a class without objects.
        source: as in :class:`CalibrationReport`.
    """
    objects, scored = meter.sums["objects"], meter.sums["objects"] > 0
    images = float(meter.sums["images"])
    by_class = [{name: meter.sums[name][k] for name in PER_CLASS} for k in range(meter.classes)]
    together = {name: meter.sums[name].sum(0) for name in PER_CLASS}
    groups = [_group(sums, images) for sums in (together, *by_class)]
    costs = [error_costs(s["outcomes"], s["objects"], s["missed"]) for s in by_class]
    mean_costs = {
        name: float(mean_over_classes(np.array([c[name] for c in costs]), scored))
        for name in costs[0]
    }
    curves = [
        {iou: x[k].tolist() for iou, x in precision_recall.items()} for k in range(len(names))
    ]
    mean_curve = {iou: mean_over_classes(x, scored).tolist() for iou, x in precision_recall.items()}
    points = [group["operating_points"] for group in groups]
    rows = zip(
        ("all classes", *names),
        groups,
        (mean_costs, *costs),
        (mean_curve, *curves),
        _calibration(meter, points[0], points[1:]),
        strict=True,
    )
    reports = [
        GroupCalibration(name=name, costs=cost, precision_recall=curve, **group, **errors)
        for name, group, cost, curve, errors in rows
    ]
    return CalibrationReport(
        images=int(images),
        overall=reports[0],
        classes=reports[1:],
        confusion=confusion(meter.confusion, objects),
        source=source or {},
    )


def _group(sums: dict[str, np.ndarray], images: float) -> dict:
    """Return what is counted alike for one class and for all together."""
    outcomes = outcomes_from(sums["outcomes"], sums["objects"], images)
    return {
        "objects": int(sums["objects"]),
        "detections": int(outcomes.right[0] + outcomes.wrong[0]),
        "operating_points": operating_points(outcomes),
        "curve": curve(outcomes),
        "counts": error_counts(sums["outcomes"], sums["missed"]),
        "duplicates": duplicates(sums["duplicates"], sums["copies"], outcomes),
    }


def _calibration(
    meter: CalibrationMeter, points: dict, points_by_class: Sequence[dict]
) -> list[dict]:
    """Return errors, shown errors and reliability of all classes together, then of each class.

    A class without a threshold of its own is shown from the common one on.
    """
    images = float(meter.sums["images"])
    rows, everything, shown = [], 0, 0
    by_class: dict[str, list[dict]] = {"errors": [], "shown_errors": []}
    for k, point in enumerate(points_by_class):
        cells = cells_of_class(meter.sums, k)
        threshold = np.nan_to_num(point["LRP"]["score"], nan=points["LRP"]["score"])
        bins, shown_bins = bins_of(cells), bins_of(cells, np.nan_to_num(threshold, nan=0))
        everything, shown = everything + bins, shown + shown_bins
        by_class["errors"].append(calibration_errors(bins))
        by_class["shown_errors"].append(calibration_errors(shown_bins))
        row = {key: _estimates(errors[-1], images) for key, errors in by_class.items()}
        rows.append({**row, "reliability": reliability(bins, images)})
    scored = meter.sums["objects"] > 0
    overall: dict = {"reliability": reliability(everything, images)}
    for (key, errors), bins in zip(by_class.items(), (everything, shown), strict=True):
        means = {
            name: mean_over_classes(np.stack([e[name] for e in errors]), scored)
            for name in ERRORS[1:]
        }
        overall[key] = _estimates({ERRORS[0]: calibration_errors(bins)[ERRORS[0]], **means}, images)
    return [overall, *rows]


def _estimates(errors: dict[str, np.ndarray], images: float) -> dict[str, list[float]]:
    return {name: estimate(values, images).tolist() for name, values in errors.items()}
