"""A report as text."""

from __future__ import annotations

import math

from tabulate import tabulate

from .errors import COSTS
from .reliability import ERRORS
from .report import CalibrationReport, GroupCalibration
from .sums import THRESHOLDS

NOT_ENOUGH = "-"
SHOWN_CLASSES = 100


def format_calibration(report: CalibrationReport) -> str:
    """Return tables of calibration, thresholds, kinds of error and duplicates, in the units of
    :mod:`.report`."""
    lines = [
        "\nDoes a score of 0.8 mean 0.8? Calibration errors, with 95 % intervals over images:",
        _calibration(report.overall),
        "\nWhich threshold? The best ones, and what they give at IoU 0.5:",
        _thresholds(report),
        "\nWhat costs how much AP50? (what it would gain without this kind of error)",
        _costs(report.overall),
        "\nOne object, one box? Detections on a better one of their class, by threshold:",
        _duplicates(report.overall),
    ]
    return "\n".join(lines)


def _calibration(group: GroupCalibration) -> str:
    rows = [
        [name, *(_interval(errors[name]) for errors in (group.errors, group.shown_errors))]
        for name in ERRORS
    ]
    return _table(rows, ["", "all detections", "from the LRP threshold on"])


def _interval(values: list[float]) -> str:
    value, low, high = map(number, values)
    return value if NOT_ENOUGH in (low, high) else f"{value} ({low} to {high})"


def _thresholds(report: CalibrationReport) -> str:
    head = ["class", "objects", "LRP at", "precision", "recall", "IoU", "LRP"]
    head += ["F1 at", "precision", "recall", "IoU", "F1", "FP per image"]
    rows = []
    for group in [report.overall, *report.classes[:SHOWN_CLASSES]]:
        lrp, f1 = (group.operating_points[measure] for measure in ("LRP", "F1"))
        shared = ("score", "precision", "recall", "iou")
        cells = [number(lrp.get(key, math.nan)) for key in (*shared, "LRP")]
        cells += [number(f1.get(key, math.nan)) for key in (*shared, "F1", "false_positives")]
        rows.append([group.name, str(group.objects), *cells])
    return _table(rows, head)


def _costs(group: GroupCalibration) -> str:
    rows = [
        [
            name.replace("_", " "),
            number(group.costs[name], 2),
            str(group.counts[name]) if name in group.counts else "",
        ]
        for name in COSTS
    ]
    return _table(rows, ["kind", "AP50", "errors"])


def _duplicates(group: GroupCalibration) -> str:
    columns = [*(f"share {iou}" for iou in (0.5, 0.7, 0.9)), "per object"]
    rows = [
        [f"{THRESHOLDS[i]:g}", *(number(group.duplicates[column][i]) for column in columns)]
        for i in (1, 5, 9, 13)
    ]
    head = ["threshold", "at IoU 0.5", "at IoU 0.7", "at IoU 0.9", "detections per found object"]
    return _table(rows, head)


def number(value: float, digits: int = 3) -> str:
    """Return a number as text; "-" where there was not enough data."""
    return NOT_ENOUGH if math.isnan(value) else f"{value:.{digits}f}"


def _table(rows: list[list[str]], head: list[str]) -> str:
    return tabulate(rows, head, stralign="right", disable_numparse=True)
