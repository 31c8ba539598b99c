"""Plotly figures as the dicts that plotly.js reads; the page adds sizes and its theme's colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detrex.evaluation.alignment import AlignmentReport
from detrex.evaluation.alignment.report import WHY_RECALL_FALLS

from .runs import Run

# Ten colours with a contrast of 3 or more on white and on near-black. Runs of one group have one
# colour and differ in the dash; so do groups after the tenth.
COLORS = "#3f83d6 #d9730d #3a9a4a #e0484a #a566c4 #1f97a3 #a9764a #d6589a #8f8a1f #808080".split()
DASHES = ("solid", "dash", "dot", "dashdot")
POINTS = 150
IOU_THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
Named = Sequence[tuple[int, str, Any]]  # (number of the run, name, a report of its diagnosis)


def line_style(group: int, member: int) -> dict[str, str]:
    """Colour and dash of a run, the same in every figure.

    Args:
        group: number of its group.
        member: its number in the group.
    """
    dash = DASHES[(group // len(COLORS) + member) % len(DASHES)]
    return {"color": COLORS[group % len(COLORS)], "dash": dash}


def curves(runs: Sequence[Run]) -> dict[str, Any]:
    """The curves of all runs.

    Returns:
        "training" and "evaluation": metric -> (number of its axis, values) or None, of each run;
        "axes": the iterations of each axis, which most metrics of a run share.
    """
    by_kind: dict[str, dict[str, list]] = {"training": {}, "evaluation": {}}
    axes: dict[tuple, int] = {}
    for i, run in enumerate(runs):
        for kind, metrics in (("training", run.curves), ("evaluation", _scores(run))):
            for name, (x, y) in metrics.items():
                points = thinned(x, y) if kind == "training" else [[*x], [*y]]
                number = axes.setdefault(tuple(points[0]), len(axes))
                by_kind[kind].setdefault(name, [None] * len(runs))[i] = [number, points[1]]
    return {**by_kind, "axes": [[*axis] for axis in axes]}


def _scores(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for iteration, scores in run.evaluations.items():
        for name, score in scores.items():
            x, y = series.setdefault(name, ([], []))
            x.append(iteration)
            y.append(float(f"{score:.5g}"))
    return series


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
    return figures + [_density(*run) for run in named]


def figure_of(title: str, note: str, x: str, y: str, traces: list[dict], **layout: object) -> dict:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"title": title, "note": note, "traces": traces, "layout": {**axes, **layout}}


def line_of(run: int, name: str, x: list, y: list, **more: object) -> dict:
    """A run's line; the page gives it the run's colour and dash."""
    return {"type": "scatter", "name": name, "meta": run, "x": x, "y": y, **more}


def from_zero(figure: dict) -> dict:
    """The figure with a y axis that begins at 0."""
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure


def _by_layer(named: Named) -> dict:
    traces = []
    for run, name, report in named:
        x, y = zip(*((layer.layer, layer.scores["AP"]) for layer in report.layers), strict=True)
        traces.append(line_of(run, name, [*x], [*y], mode="lines+markers"))
    note = "What each decoder layer's own boxes and scores are worth."
    figure = figure_of("AP by decoder layer", note, "layer", "AP", traces)
    figure["layout"]["xaxis"]["dtick"] = 1
    return from_zero(figure)


def _ap_by_iou(named: Named) -> dict:
    traces = [line_of(run, name, IOU_THRESHOLDS, r.last.ap_by_iou) for run, name, r in named]
    note = "AP when a box must overlap its object at least this much."
    return from_zero(figure_of("AP by IoU threshold", note, "IoU threshold", "AP", traces))


def _recall(named: Named) -> dict:
    traces = [
        line_of(run, name, [f"{k}N" for k in r.last.br_recall], [*r.last.br_recall.values()])
        for run, name, r in named
    ]
    note = "Share of the best-localised boxes among the N, 2N, ... most confident ones (N objects)."
    falling = [(name, report) for _, name, report in named if report.recall_falls]
    for name, report in falling[:2]:
        by_layer = ", ".join(f"{layer.br_recall['1']:.1f}" for layer in report.layers)
        note += f" {name} at N, by layer: {by_layer} %."
    if len(falling) > 2:
        note += f" It falls in {len(falling) - 2} more."
    if falling:
        note += " " + WHY_RECALL_FALLS
    title = "Are the best boxes the confident ones?"
    return from_zero(figure_of(title, note, "boxes kept", "%", traces))


def _olrp(named: Named) -> dict:
    traces = [
        {
            "type": "bar",
            "name": name,
            "meta": run,
            "x": [*report.last.olrp],
            "y": [*report.last.olrp.values()],
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
        traces.append(line_of(run, name, centers, share, line={"shape": "hvh"}))
    title = f"IoU of the {kind.replace('_', '-').replace('-confidence', ' confidence')} boxes"
    return figure_of(title, "Share of boxes by IoU with their object.", "IoU", "% of boxes", traces)


def _density(run: int, name: str, report: AlignmentReport) -> dict:
    layer = report.last
    size = len(layer.density)
    centers = [(i + 0.5) / size for i in range(size)]
    counts = [[n or None for n in row] for row in layer.density]  # empty bins stay blank
    trace = {"type": "heatmap", "x": centers, "y": centers, "z": counts, "colorscale": "Viridis"}
    note = (
        f"Matched boxes; Pearson {layer.pearson:.2f}, Spearman {layer.spearman:.2f}. "
        "On the diagonal a score says how good its box is."
    )
    figure = figure_of(f"Confidence and IoU: {name}", note, "IoU", "confidence", [trace])
    return {**figure, "run": run}
