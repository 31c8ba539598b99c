"""Pictures of a report: one panel a question, and all of them on one sheet (PNG and SVG)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from detrex.utils.files import atomic_write

from .report import AlignmentReport

BLUE, ORANGE, GREY = "#2166ac", "#e08214", "#666666"


def save_plots(report: AlignmentReport, folder: str | os.PathLike) -> list[str]:
    """Write ``<panel>.png`` and ``.svg`` for every panel and ``overview``; return the paths."""
    figures = {}
    for name, panel in panels_of(report).items():
        figures[name] = Figure(figsize=(5, 4), layout="constrained")
        panel(figures[name].add_subplot(), report)
    figures["overview"] = overview(report)
    paths = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            paths.append(os.path.join(folder, f"{name}.{kind}"))
            with atomic_write(paths[-1], "wb") as stream:
                figure.savefig(stream, format=kind, dpi=110)
    return paths


def overview(report: AlignmentReport) -> Figure:
    """All panels on one sheet."""
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    axes, panels = list(figure.subplots(2, 3).flat), list(panels_of(report).values())
    for ax, panel in zip(axes, panels, strict=False):
        panel(ax, report)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    return figure


def best_regressed_recall(ax: Axes, report: AlignmentReport) -> None:
    """Recall of best-regressed samples among the most confident (Align-DETR, Fig. 1a)."""
    for layer, color in _layer_colors(report):
        multiples = [int(k) for k in layer.br_recall]
        values = list(layer.br_recall.values())
        name = f"{_layer_name(report, layer.layer)}: {values[0]:.1f} at N"
        ax.plot(multiples, values, "o-", color=color, label=name)
    ax.set(xlabel="most confident samples, as multiple of N objects", ylabel="recall, %")
    ax.set(xticks=multiples, xticklabels=[f"{k}N" for k in multiples], ylim=(0, 105))
    _finish(ax, "Are the best boxes among the most confident?")


def iou_histograms(ax: Axes, report: AlignmentReport) -> None:
    """IoU of best-regressed and of high-confidence samples (Align-DETR, Fig. 1b)."""
    for name, color in (("best_regressed", BLUE), ("high_confidence", ORANGE)):
        _histogram(ax, report.last.histograms[name], color, name.replace("_", "-"))
    ax.set(xlabel="IoU with the object", ylabel="share of samples, %", xlim=(0, 1))
    _finish(ax, "How good are the best and the confident boxes?")


def confidence_and_iou(ax: Axes, report: AlignmentReport) -> None:
    """Density of matched samples (Align-DETR, Fig. 4)."""
    counts = np.array(report.last.density)
    norm = LogNorm(1, max(counts.max(), 2))
    image = ax.imshow(
        np.ma.masked_equal(counts, 0),
        origin="lower",
        extent=(0, 1, 0, 1),
        aspect="auto",
        cmap="viridis",
        norm=norm,
    )
    bar = ax.figure.colorbar(image, ax=ax, label="matched samples")
    bar.formatter, bar.minorformatter = LogFormatter(), LogFormatter()  # 6, not 6 x 10^0
    ax.set(xlabel="IoU with the matched object", ylabel="confidence")
    last = report.last
    _finish(ax, f"Matched: Pearson {last.pearson:.2f}, Spearman {last.spearman:.2f}", legend=False)


def unmatched_iou(ax: Axes, report: AlignmentReport) -> None:
    """IoU of unmatched samples with the nearest object (Rank-DETR, section 4)."""
    for layer, color in _layer_colors(report):
        name = f"{_layer_name(report, layer.layer)}: mean {layer.unmatched_iou:.2f}"
        _histogram(ax, layer.histograms["unmatched"], color, name)
    ax.set(xlabel="IoU with the nearest object", ylabel="share of samples, %", xlim=(0, 1))
    _finish(ax, "How close are the unmatched to objects?")


def by_layer(ax: Axes, report: AlignmentReport) -> None:
    """AP, and rank correlation within an image, of each decoder layer."""
    layers = [layer.layer for layer in report.layers]
    ap = [layer.scores["AP"] for layer in report.layers]
    correlation = [100 * layer.rank_correlation for layer in report.layers]
    for name, values, color, style, shift in (
        ("AP", ap, BLUE, "o-", 7),
        ("rank correlation in an image x 100", correlation, ORANGE, "s--", -15),
    ):
        ax.plot(layers, values, style, color=color, label=name)
        for place in zip(layers, values, strict=True):
            text = "" if np.isnan(place[1]) else f"{place[1]:.1f}"
            ax.annotate(text, place, (0, shift), textcoords="offset points", ha="center")
    ax.set(xlabel="decoder layer", xticks=layers, ylim=(min(0, *correlation), 100))
    ax.margins(x=0.1)
    _finish(ax, "What does each layer add?")


def ap_by_iou(ax: Axes, report: AlignmentReport) -> None:
    """AP at each of COCO's IoU thresholds."""
    thresholds = np.linspace(0.5, 0.95, 10)
    for layer, color in _layer_colors(report):
        name = f"{_layer_name(report, layer.layer)}: AP {layer.scores['AP']:.1f}"
        ax.plot(thresholds, layer.ap_by_iou, "o-", color=color, label=name)
    ax.set(xlabel="IoU threshold", ylabel="AP, %", ylim=(0, 100))
    _finish(ax, "At which overlap is AP lost?")


PANELS: dict[str, Callable[[Axes, AlignmentReport], None]] = {
    "best_regressed_recall": best_regressed_recall,
    "iou_histograms": iou_histograms,
    "confidence_and_iou": confidence_and_iou,
    "by_layer": by_layer,
    "ap_by_iou": ap_by_iou,
    "unmatched_iou": unmatched_iou,
}


def panels_of(report: AlignmentReport) -> dict[str, Callable[[Axes, AlignmentReport], None]]:
    """The panels that say something: one layer has nothing to compare."""
    return {k: panel for k, panel in PANELS.items() if len(report.layers) > 1 or k != "by_layer"}


def _layer_colors(report: AlignmentReport) -> Iterable[tuple]:
    """(layer, colour), the last one darkest."""
    shades = colormaps["Blues"](np.linspace(0.35, 0.95, len(report.layers)))
    return zip(report.layers, shades if len(shades) > 1 else [BLUE], strict=True)


def _layer_name(report: AlignmentReport, layer: int) -> str:
    return f"layer {layer}" if report.kind == "queries" else "detections"


def _histogram(ax: Axes, counts: list[int], color: object, name: str) -> None:
    share = 100 * np.array(counts) / max(sum(counts), 1)
    ax.stairs(share, np.linspace(0, 1, len(counts) + 1), color=color, label=name, linewidth=1.5)


def _finish(ax: Axes, title: str, legend: bool = True) -> None:
    ax.set_title(title, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=GREY)
    if legend:
        ax.legend(fontsize=8, frameon=False)
