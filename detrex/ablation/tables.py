"""Scores of an ablation as tables: mean, spread over seeds, difference to the first row."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from detrex.utils.errors import InputError

from .jobs import Job
from .plan import Plan, Variant

NOTE = (
    "Mean ± sample standard deviation (n - 1) over n seeds; in brackets the difference to the "
    "first row's mean."
)


@dataclass(frozen=True)
class Cell:
    """One metric of one variant; None where there are too few runs.

    Attributes:
        mean: over the finished runs.
        spread: sample standard deviation over the finished runs (n - 1 in the denominator).
        difference: of the mean to the baseline's; None in the baseline's own row.
    """

    mean: float | None
    spread: float | None
    difference: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        digits = 2 if abs(self.mean) >= 1 else 3  # percent, or from 0 to 1
        spread = "" if self.spread is None else f" ± {self.spread:.{digits}f}"
        difference = "" if self.difference is None else f" ({self.difference:+.{digits}f})"
        return f"{self.mean:.{digits}f}{spread}{difference}"


@dataclass(frozen=True)
class Row:
    """A variant with the number of its finished and of all its runs, and its cells by metric."""

    variant: Variant
    finished: int
    runs: int
    cells: dict[str, Cell]

    @property
    def n(self) -> str:
        return str(self.runs) if self.finished == self.runs else f"{self.finished} of {self.runs}"


def summarize(jobs: Sequence[Job], metrics: Sequence[str]) -> list[Row]:
    """Return a row per variant, in the order of the jobs; the first is the baseline.

    Args:
        jobs: finished or not.
        metrics: names as in the runs' ``metrics.json`` without "bbox/", e.g. "AP50".

    Raises:
        InputError: finished runs do not have such a metric.
    """
    by_variant: dict[Variant, list[dict[str, float]]] = {}
    for job in jobs:
        by_variant.setdefault(job.variant, []).append(job.scores())
    _check_metrics(metrics, [run for scores in by_variant.values() for run in scores])
    baseline: dict[str, float | None] = {}
    rows: list[Row] = []
    for variant, scores in by_variant.items():
        done = [run for run in scores if run]
        values = {name: [run[name] for run in done if name in run] for name in metrics}
        cells = {name: _cell(values[name], baseline.get(name)) for name in metrics}
        baseline = baseline or {name: cell.mean for name, cell in cells.items()}
        rows.append(Row(variant, len(done), len(scores), cells))
    return rows


def as_texts(jobs: Sequence[Job], plan: Plan, metrics: Sequence[str]) -> dict[str, str]:
    """The table as "md" (with the plan's title and source), "csv" and "tex".

    Raises:
        InputError: finished runs do not have such a metric.
    """
    rows = summarize(jobs, metrics)
    heading = [text.strip() for text in (f"## {plan.title}", plan.source) if text]
    markdown = "\n\n".join([*heading, as_markdown(rows)])
    return {"csv": as_csv(rows), "tex": as_latex(rows), "md": markdown}


def as_markdown(rows: Sequence[Row]) -> str:
    """A GitHub table, the meaning of its figures, and the config of each row."""
    meanings = "\n".join(f"- {_plain(row.variant.name)}: `{_meaning(row)}`" for row in rows)
    header, *lines = _lines(rows)
    cells = [[_plain(cell) for cell in line] for line in lines]
    text = tabulate(cells, header, "github", disable_numparse=True)
    return f"{text}\n\n{NOTE}\n\n{meanings}\n"


def as_latex(rows: Sequence[Row]) -> str:
    """A booktabs table."""
    header, *lines = _lines(rows)
    text = tabulate(lines, header, "latex_booktabs", disable_numparse=True)
    meanings = "".join(f"% {row.variant.name}: {_meaning(row)}\n" for row in rows)
    return text.replace("±", r"$\pm$") + f"\n% {NOTE}\n{meanings}"


def as_csv(rows: Sequence[Row]) -> str:
    """Full precision, one column per number; empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    fields = ("mean", "spread", "difference")
    names = [f"{name}_{field}" for name in rows[0].cells for field in fields]
    writer.writerow(["variant", "n", *names, "published_AP", "config"])
    for row in rows:
        numbers = [getattr(cell, field) for cell in row.cells.values() for field in fields]
        writer.writerow(
            [row.variant.name, row.finished, *numbers, row.variant.published, _meaning(row)]
        )
    return stream.getvalue()


def _check_metrics(metrics: Sequence[str], scores: Sequence[dict[str, float]]) -> None:
    known = {name for run in scores for name in run}
    for name in metrics:
        if known and name not in known:
            raise InputError(f"--metrics {name}: the runs have {', '.join(sorted(known))}")


def _cell(values: Sequence[float], baseline: float | None) -> Cell:
    if not values:
        return Cell(None, None, None)
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Cell(mean, spread, None if baseline is None else mean - baseline)


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    """The table's header, then its rows; the published figures only if there are any."""
    lines = [["variant", "n", *rows[0].cells, "published AP"]]
    for row in rows:
        cells = map(str, row.cells.values())
        lines.append([row.variant.name, row.n, *cells, row.variant.published])
    return lines if any(row.variant.published for row in rows) else [line[:-1] for line in lines]


def _meaning(row: Row) -> str:
    return " ".join([row.variant.config_file, *row.variant.overrides])


def _plain(text: str) -> str:
    """A user's name without the characters that end a cell or begin code."""
    return text.replace("|", "\\|").replace("`", "'")
