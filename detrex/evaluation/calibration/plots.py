"""Reliability diagrams: what boxes of a score are worth."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detrex.utils.files import atomic_write

from .report import CalibrationReport
from .tables import number

BLUE, ORANGE, GREY = "#2166ac", "#e08214", "#666666"
COLUMNS = 3


def save_reliability(reports: Mapping[str, CalibrationReport], folder: str | os.PathLike) -> str:
    """Write ``reliability.png`` and ``.svg``, a panel for each report by its title; return the
    first one's path."""
    columns = min(COLUMNS, len(reports))
    rows = math.ceil(len(reports) / columns)
    figure = Figure(figsize=(4 * columns, 3.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax, (title, report) in zip(axes.flat, reports.items(), strict=False):
        reliability_diagram(ax, report)
        errors = ", ".join(
            f"{k} {number(report.overall.errors[k][0])}" for k in ("D-ECE", "LaECE0")
        )
        ax.set_title(f"{textwrap.fill(title, 44)}\n{errors}", fontsize=10)
    for ax in axes.flat[len(reports) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("share that is right, mean IoU")
    for ax in axes[-1]:
        ax.set_xlabel("score")
    figure.legend(handles=axes[0, 0].lines, loc="outside upper center", ncols=3, frameon=False)
    paths = [os.path.join(folder, f"reliability.{kind}") for kind in ("png", "svg")]
    for path in paths:
        with atomic_write(path, "wb") as stream:
            figure.savefig(stream, format=path[-3:], dpi=80)
    return paths[0]


def reliability_diagram(ax: Axes, report: CalibrationReport) -> None:
    """Mean IoU (0 without an object) and share of boxes right at IoU 0.5, by bin of the score, with
    95 % intervals, beside the diagonal of honest scores; below, the share of boxes in each bin
    (logarithmic)."""
    columns = {name: np.array(x) for name, x in report.overall.reliability.items()}
    score, count = columns["score"], columns["count"]
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="honest scores")
    for name, label, color in (
        ("iou", "mean IoU", BLUE),
        ("precision", "share right at IoU 0.5", ORANGE),
    ):
        ax.plot(score, columns[name], "o-", markersize=3, color=color, label=label)
        ends = (columns[f"{name}_{end}"] for end in ("low", "high"))
        ax.fill_between(score, *ends, color=color, alpha=0.2, linewidth=0)
    height = 0.15 * np.log1p(count) / max(np.log1p(count).max(), 1)
    ax.bar((np.arange(len(count)) + 0.5) / len(count), height, 0.9 / len(count), color="#dddddd")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=GREY)
