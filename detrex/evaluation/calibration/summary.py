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
    sums, images = meter.sums, float(meter.sums["images"])
    objects, outcomes = sums["objects"], sums["outcomes"]
    together = outcomes_from(outcomes.sum(0), objects.sum(), images)
    by_class = [outcomes_from(x, n, images) for x, n in zip(outcomes, objects, strict=True)]
    points = operating_points(together)
    points_by_class = [operating_points(x) for x in by_class]
    calibration = _calibration(meter, points, points_by_class)
    rows = [
        {
            "operating_points": points_by_class[k],
            "curve": curve(by_class[k]),
            "precision_recall": {iou: x[k].tolist() for iou, x in precision_recall.items()},
            "costs": error_costs(outcomes[k], objects[k], sums["missed"][k]),
            "counts": error_counts(outcomes[k], sums["missed"][k]),
            "duplicates": duplicates(sums["duplicates"][k], sums["copies"][k], by_class[k]),
        }
        for k in range(meter.classes)
    ]
    scored = objects > 0
    costs = {
        name: mean_over_classes(np.array([row["costs"][name] for row in rows]), scored)
        for name in rows[0]["costs"]
    }
    overall = {
        "operating_points": points,
        "curve": curve(together),
        "precision_recall": {
            iou: mean_over_classes(x, scored).tolist() for iou, x in precision_recall.items()
        },
        "costs": {name: float(cost) for name, cost in costs.items()},
        "counts": error_counts(outcomes.sum(0), sums["missed"].sum()),
        "duplicates": duplicates(sums["duplicates"].sum(0), sums["copies"].sum(0), together),
    }
    counts = [(objects.sum(), together), *zip(objects, by_class, strict=True)]
    groups = [
        GroupCalibration(
            name=name,
            objects=int(count),
            detections=int(reached.right[0] + reached.wrong[0]),
            **row,
            **errors,
        )
        for name, (count, reached), row, errors in zip(
            ["all classes", *names], counts, [overall, *rows], calibration, strict=True
        )
    ]
    return CalibrationReport(
        images=int(images),
        overall=groups[0],
        classes=groups[1:],
        confusion=confusion(meter.confusion, objects),
        source=source or {},
    )


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
