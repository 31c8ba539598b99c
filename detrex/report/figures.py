"""Plotly figures as the dicts that plotly.js reads; the page adds sizes and its theme's colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detrex.evaluation.alignment import LayerAlignment
from detrex.evaluation.alignment.report import WHY_RECALL_FALLS

from .runs import Run

# Tableau's ten colours, readable on white and on near-black; the next ten runs get dashed lines.
COLORS = "#4e79a7 #f28e2b #e15759 #59a14f #b07aa1 #9c755f #76b7b2 #edc948 #ff9da7 #8a8a8a".split()
DASHES = ("solid", "dash", "dot")
POINTS = 300
IOU_THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
Named = Sequence[tuple[int, str, Any]]  # (number of the run, name, a report of its diagnosis)


def line_style(run: int) -> dict:
    """Colour and dash of a run, the same in every figure."""
    return {
        "color": COLORS[run % len(COLORS)],
        "dash": DASHES[run // len(COLORS) % len(DASHES)],
    }


def curves(runs: Sequence[Run]) -> dict[str, dict[str, list]]:
    """{"training" | "evaluation": {metric: [[iterations, values] or None, of each run]}}."""
    by_kind: dict[str, dict[str, list]] = {"training": {}, "evaluation": {}}
    for i, run in enumerate(runs):
        series = {"training": {name: thinned(*curve) for name, curve in run.curves.items()}}
        series["evaluation"] = {}
        for iteration, scores in run.evaluations.items():
            for name, score in scores.items():
                x, y = series["evaluation"].setdefault(name, [[], []])
                x.append(iteration)
                y.append(score)
        for kind, metrics in series.items():
            for name, points in metrics.items():
                by_kind[kind].setdefault(name, [None] * len(runs))[i] = points
    return by_kind


def thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """A curve as [x, y] of at most ``POINTS`` points, each the mean of neighbouring ones.

    A long run has a hundred curves of thousands of points.
    """
    count = min(len(x), POINTS)
    means = [[chunk.mean() for chunk in np.array_split(values, count)] for values in (x, y)]
    return [[float(f"{value:.5g}") for value in values] for values in means]


def alignment_figures(named: Named) -> list[dict]:
    """Every figure of the alignment diagnosis, for the runs that have one."""
    figures = [_by_layer(named), _ap_by_iou(named), _recall(named), _olrp(named)]
    figures += [_histogram(named, "best_regressed"), _histogram(named, "high_confidence")]
    return figures + [_density(name, report.last) for _, name, report in named]


def figure_of(title: str, note: str, x: str, y: str, traces: list[dict], **layout: object) -> dict:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"title": title, "note": note, "traces": traces, "layout": {**axes, **layout}}


def line_of(run: int, name: str, x: list, y: list, **more: object) -> dict:
    return {"type": "scatter", "name": name, "x": x, "y": y, "line": line_style(run), **more}


def _by_layer(named: Named) -> dict:
    traces = []
    for run, name, report in named:
        x, y = zip(*((layer.layer, layer.scores["AP"]) for layer in report.layers), strict=True)
        traces.append(line_of(run, name, [*x], [*y], mode="lines+markers"))
    note = "What each decoder layer's own boxes and scores are worth."
    figure = figure_of("AP by decoder layer", note, "layer", "AP", traces)
    figure["layout"]["xaxis"]["dtick"] = 1
    return figure


def _ap_by_iou(named: Named) -> dict:
    traces = [line_of(run, name, IOU_THRESHOLDS, r.last.ap_by_iou) for run, name, r in named]
    note = "AP when a box must overlap its object at least this much."
    return figure_of("AP by IoU threshold", note, "IoU threshold", "AP", traces)


def _recall(named: Named) -> dict:
    traces = [
        line_of(run, name, [f"{k}N" for k in r.last.br_recall], [*r.last.br_recall.values()])
        for run, name, r in named
    ]
    note = "Share of the best-localised boxes among the N, 2N, ... most confident ones (N objects)."
    falling = [(name, report) for _, name, report in named if report.recall_falls]
    for name, report in falling:
        by_layer = ", ".join(f"{layer.br_recall['1']:.1f}" for layer in report.layers)
        note += f" {name} at N, by layer: {by_layer} %."
    if falling:
        note += " " + WHY_RECALL_FALLS
    return figure_of("Are the best boxes the confident ones?", note, "boxes kept", "%", traces)


def _olrp(named: Named) -> dict:
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": [*report.last.olrp],
            "y": [*report.last.olrp.values()],
            "marker": {"color": line_style(run)["color"]},
        }
        for run, name, report in named
    ]
    note = "Optimal localisation-recall-precision error and its parts; lower is better."
    return figure_of("oLRP", note, "", "%", traces, barmode="group")


def _histogram(named: Named, kind: str) -> dict:
    traces = []
    for run, name, report in named:
        counts = report.last.histograms[kind]
        total = max(1, sum(counts))
        centers = [(i + 0.5) / len(counts) for i in range(len(counts))]
        share = [100 * count / total for count in counts]
        line = {**line_style(run), "shape": "hvh"}
        traces.append({**line_of(run, name, centers, share), "line": line})
    title = f"IoU of the {kind.replace('_', '-').replace('-confidence', ' confidence')} boxes"
    return figure_of(title, "Share of boxes by IoU with their object.", "IoU", "% of boxes", traces)


def _density(name: str, layer: LayerAlignment) -> dict:
    size = len(layer.density)
    centers = [(i + 0.5) / size for i in range(size)]
    counts = [[n or None for n in row] for row in layer.density]  # empty bins stay blank
    trace = {"type": "heatmap", "x": centers, "y": centers, "z": counts, "colorscale": "Viridis"}
    note = (
        f"Matched boxes; Pearson {layer.pearson:.2f}, Spearman {layer.spearman:.2f}. "
        "On the diagonal a score says how good its box is."
    )
    return figure_of(f"Confidence and IoU: {name}", note, "IoU", "confidence", [trace])
