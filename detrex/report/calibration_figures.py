"""Plotly figures and tables of what the runs' scores are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detrex.evaluation.calibration import CalibrationReport, GroupCalibration
from detrex.evaluation.calibration.errors import COSTS
from detrex.evaluation.calibration.reliability import ERRORS
from detrex.evaluation.calibration.sums import SCORE_CELLS, THRESHOLDS
from detrex.evaluation.calibration.tables import number

from .figures import COLORS, Named, figure_of, line_of

FEWEST = 10  # detections of a bin that is drawn: fewer say nothing
MOST_CLASSES = 100  # of a confusion matrix that can be read
SHOWN_CONFUSION = "0.3"
CURVE_SCORES = [*SCORE_CELLS.tolist(), 1.0]


def calibration_figures(named: Named) -> list[dict]:
    """Every figure of calibration, for the runs that have it."""
    figures = [_reliability(named, "precision"), _reliability(named, "iou")]
    figures += [_thresholds(named), _false_positives(named), _precision_recall(named)]
    figures += [_costs(named), _duplicates(named)]
    return figures + [_confusion(name, report) for _, name, report in named if _fits(report)]


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


def threshold_rows(named: Named) -> list[dict]:
    """The best thresholds of each class, and of all classes together, in each run."""
    names = dict.fromkeys(g.name for _, _, report in named for g in report.classes)
    tables = [{g.name: g for g in report.classes} for _, _, report in named]
    rows = [{"name": name, "cells": [_points(t.get(name)) for t in tables]} for name in names]
    return [
        {"name": "all classes", "cells": [_points(report.overall) for _, _, report in named]},
        *rows,
    ]


def _points(group: GroupCalibration | None) -> list[float | None]:
    """F1's threshold, precision, recall and IoU, then LRP's threshold; None for unknown."""
    if group is None:
        return [None] * 5
    f1, lrp = (group.operating_points[name] for name in ("F1", "LRP"))
    values = [f1[key] for key in ("score", "precision", "recall", "iou")] + [lrp["score"]]
    return [None if math.isnan(value) else value for value in values]


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


def _counts(report: CalibrationReport) -> tuple[np.ndarray, np.ndarray]:
    curve = report.overall.curve
    return np.array(curve["right"]), np.array(curve["wrong"])


def _thresholds(named: Named) -> dict:
    traces = []
    for run, name, report in named:
        right, wrong = _counts(report)
        f1 = 2 * right / np.maximum(right + wrong + report.overall.objects, 1)
        traces.append(line_of(run, name, CURVE_SCORES, np.round(f1, 4).tolist()))
    note = (
        "F1 at IoU 0.5 of all classes with one threshold. A flat top means that the exact "
        "threshold matters little. The table below has each class's best one."
    )
    return _unit_axes(figure_of("Which threshold?", note, "threshold", "F1", traces))


def _false_positives(named: Named) -> dict:
    traces = []
    for run, name, report in named:
        right, wrong = _counts(report)
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
            line = line_of(run, label, recalls, report.overall.precision_recall[iou])
            traces.append({**line, "line": {**line["line"], "width": width}})
    note = "Mean over classes, at IoU 0.5 (thick) and 0.75 (thin). AP is the area under a curve."
    figure = figure_of("Precision and recall", note, "recall", "precision, %", traces)
    figure["layout"]["yaxis"]["range"] = [0, 102]
    return figure


def _costs(named: Named) -> dict:
    kinds = COSTS[:6]
    traces = [
        {
            "type": "bar",
            "name": kind,
            "x": [name for _, name, _ in named],
            "y": [report.overall.costs[kind] for _, _, report in named],
            "marker": {"color": COLORS[i]},
        }
        for i, kind in enumerate(kinds)
    ]
    note = (
        "AP50 that the detector would gain without one kind of error (Bolya et al. 2020): wrong "
        "class, box too far off, both, a second box for an object, nothing there, object missed."
    )
    layout = {"barmode": "stack", "showlegend": True, "legend": {"orientation": "h", "y": -0.2}}
    return figure_of("Which errors cost AP?", note, "", "AP50 points", traces, **layout)


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
    return figure_of("One object, one box?", note, "threshold", "% of detections", traces)


def _fits(report: CalibrationReport) -> bool:
    return SHOWN_CONFUSION in report.confusion and 0 < len(report.classes) <= MOST_CLASSES


def _confusion(name: str, report: CalibrationReport) -> dict:
    names = [*(group.name for group in report.classes), "background"]
    counts = np.zeros((len(names), len(names)))
    for row, column, count in report.confusion[SHOWN_CONFUSION]:
        counts[row, column] = count
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": np.where(counts > 0, share.round(2), None).tolist(),
        "text": counts.astype(int).tolist(),
        "hovertemplate": "%{y} detected as %{x}: %{text} (%{z:.1f} %)<extra></extra>",
        "colorscale": "Viridis",
        "zmin": 0,
        "zmax": 100,
    }
    note = (
        f"Share of a row's objects, at IoU 0.5 and scores from {SHOWN_CONFUSION}. Column "
        "background: missed objects; row background: boxes where nothing is."
    )
    figure = figure_of(f"Confusion: {name}", note, "detected as", "object", [trace])
    figure["layout"]["yaxis"]["autorange"] = "reversed"
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis]["type"] = "category"
    return figure
