"""Plotly figures and tables of what the runs' scores are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detrex.evaluation.calibration import CalibrationReport, GroupCalibration
from detrex.evaluation.calibration.reliability import ERRORS
from detrex.evaluation.calibration.sums import SCORE_CELLS, THRESHOLDS
from detrex.evaluation.calibration.tables import number

from .figures import Named, figure_of, from_zero, line_of

FEWEST = 10  # detections of a bin that is drawn: fewer say nothing
CURVE_SCORES = [*SCORE_CELLS.tolist(), 1.0]
# Kinds of error, on photographs and in charts: a contrast of 3 or more on white and on near-black.
KIND_NAMES = {
    "classification": "wrong class",
    "localisation": "badly placed",
    "both": "class and place",
    "duplicate": "duplicate",
    "background": "nothing there",
    "missed": "missed",
}
KIND_COLORS = {
    "classification": "#d6589a",
    "localisation": "#d9730d",
    "both": "#a566c4",
    "duplicate": "#1f97a3",
    "background": "#e0484a",
    "missed": "#8f8a1f",
}


def calibration_figures(named: Named) -> list[dict]:
    """What scores mean, for the runs that have calibration."""
    figures = [_reliability(named, "precision"), _reliability(named, "iou")]
    return [*figures, _false_positives(named), _precision_recall(named)]


def error_figures(named: Named) -> list[dict]:
    """What errors cost, for the runs that have calibration."""
    return [_costs(named), _duplicates(named)]


def class_rows(report: CalibrationReport) -> list[list]:
    """Name, objects, then F1's threshold with F1, precision, recall and IoU there, LRP's threshold
    and D-ECE of each class."""
    return [_class_row(group) for group in report.classes]


def _class_row(group: GroupCalibration) -> list:
    f1, lrp = (group.operating_points[name] for name in ("F1", "LRP"))
    values = [f1[key] for key in ("score", "F1", "precision", "recall", "iou")]
    values += [lrp["score"], group.errors["D-ECE"][0]]
    return [group.name, group.objects, *(float(f"{value:.3g}") for value in values)]


def error_rows(named: Named) -> list[dict]:
    """Name, number and calibration errors as text of each run, of all detections and of those from
    the threshold on."""
    return [
        {
            "run": run,
            "name": name,
            "errors": [
                _interval(errors[key])
                for errors in (report.overall.errors, report.overall.shown_errors)
                for key in ERRORS
            ],
        }
        for run, name, report in named
    ]


def _interval(values: Sequence[float]) -> str:
    value, low, high = (number(x) for x in values)
    return value if "-" in (low, high) else f"{value} ({low}–{high})"


def _reliability(named: Named, column: str) -> dict:
    traces = [_diagonal()]
    for run, name, report in named:
        table = {key: np.array(values) for key, values in report.overall.reliability.items()}
        enough = table["count"] >= FEWEST
        score, value = table["score"][enough], table[column][enough]
        ends = [table[f"{column}_{end}"][enough] for end in ("high", "low")]
        bars = {
            "type": "data",
            "symmetric": False,
            "array": (ends[0] - value).tolist(),
            "arrayminus": (value - ends[1]).tolist(),
            "thickness": 1,
        }
        line = line_of(run, name, score.tolist(), value.tolist(), mode="lines+markers")
        traces.append({**line, "error_y": bars})
    title, what = {
        "precision": ("Is a score the chance of being right?", "share right at IoU 0.5"),
        "iou": ("Is a score the IoU?", "mean IoU (0 without an object)"),
    }[column]
    note = (
        "On the diagonal a score of 0.8 means 0.8; below it the detector is overconfident. Bars "
        f"are 95 % intervals over images, bins of fewer than {FEWEST} detections are left out."
    )
    return _unit_axes(figure_of(title, note, "score", what, traces))


def _diagonal() -> dict:
    line = {"color": "#8a8a8a", "dash": "dot", "width": 1}
    points = {"x": [0, 1], "y": [0, 1], "mode": "lines"}
    return {"type": "scatter", **points, "line": line, "hoverinfo": "skip"}


def _unit_axes(figure: dict) -> dict:
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis]["range"] = [0, 1.02]
    return figure


def _sums(report: CalibrationReport) -> tuple[np.ndarray, np.ndarray]:
    curve = report.overall.curve
    return np.array(curve["right"]), np.array(curve["wrong"])


def _false_positives(named: Named) -> dict:
    traces = []
    for run, name, report in named:
        right, wrong = _sums(report)
        recall = right / max(report.overall.objects, 1)
        rate = wrong / max(report.images, 1)
        labels = [f"threshold {score:.2f}" for score in CURVE_SCORES]
        line = line_of(run, name, rate.round(4).tolist(), recall.round(4).tolist(), text=labels)
        traces.append(line)
    note = "Recall at IoU 0.5 for a number of wrong boxes in an image, by threshold."
    figure = figure_of(
        "What do false positives buy?", note, "false positives per image", "recall", traces
    )
    figure["layout"]["xaxis"]["type"] = "log"
    return figure


def _precision_recall(named: Named) -> dict:
    recalls, traces = [i / 100 for i in range(101)], []
    for run, name, report in named:
        for iou, width in (("0.5", 2), ("0.75", 1)):
            label = f"{name}, IoU {iou}"
            values = report.overall.precision_recall[iou]
            traces.append(line_of(run, label, recalls, values, line={"width": width}))
    note = "Mean over classes, at IoU 0.5 (thick) and 0.75 (thin). AP is the area under a curve."
    figure = figure_of("Precision and recall", note, "recall", "precision, %", traces)
    figure["layout"]["yaxis"]["range"] = [0, 102]
    return figure


def _costs(named: Named) -> dict:
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": KIND_NAMES[kind],
            "y": [name for _, name, _ in named],
            "x": [report.overall.costs[kind] for _, _, report in named],
            "marker": {"color": KIND_COLORS[kind]},
        }
        for kind in KIND_NAMES
    ]
    note = (
        "AP50 that the detector would gain without one kind of error (Bolya et al. 2020): wrong "
        "class, box too far off, both, a second box for an object, nothing there, object missed."
    )
    figure = figure_of("Which errors cost AP?", note, "AP50 points", "", traces, barmode="stack")
    return {**figure, "bars": len(named)}


def _duplicates(named: Named) -> dict:
    traces = [
        line_of(
            run,
            name,
            THRESHOLDS.tolist(),
            [100 * value for value in report.overall.duplicates["share 0.7"]],
        )
        for run, name, report in named
    ]
    note = "Detections that lie at IoU 0.7 or more on a better one of their class, by threshold."
    return from_zero(
        figure_of("One object, one box?", note, "threshold", "% of detections", traces)
    )
