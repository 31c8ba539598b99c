"""What runs are and in what they differ: facts, scores, classes, configs, versions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from detrex.config import schema
from detrex.data.coco import distinct_names
from detrex.evaluation.coco_scores import SCORES

from .groups import Group, leaves
from .runs import Run


def facts(run: Run) -> dict[str, str]:
    """What a reader asks first of a run; "–" for what it did not note."""
    backbone = _at(run.config, "model", "backbone") or {}
    names = [_at(run.config, "model", "_target_"), _at(backbone, "model_name")]
    names[1] = names[1] or _at(backbone, "_target_")
    model = ", ".join(str(name).rpartition(".")[2] for name in names if name)
    length = [f"{run.iterations:,} iterations"]
    if run.epoch_length:
        length.append(f"{run.iterations / run.epoch_length:.1f} epochs")
    if run.seconds is not None:
        length.append(duration(run.seconds))
    counts = [(split, _at(run.record, "data", split, "images")) for split in ("train", "val")]
    images = ", ".join(f"{n:,} {split}" for split, n in counts if isinstance(n, int))
    data = str(_at(run.config, "dataloader", "dataset", "name") or "–")
    parameters = run.record.get("parameters")
    return {
        "data": f"{data} ({images} images)" if images else data,
        "model": model or "–",
        "parameters": f"{parameters / 1e6:.1f} M" if parameters else "–",
        "length": ", ".join(length),
        "hardware": run.record.get("hardware", "–"),
        "date": run.started or "–",
    }


def common_facts(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Those of the runs' facts that are the same for all."""
    return {k: value for k, value in rows[0].items() if all(row[k] == value for row in rows)}


def duration(seconds: float) -> str:
    """A time as hours or minutes, e.g. "2.5 h" or "12 min"."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(1, round(seconds / 60))} min"


def score_rows(runs: Sequence[Run], names: Sequence[str]) -> list[dict]:
    """Name, iteration, and COCO scores (None: not evaluated) of the best evaluation of each run
    and of its averaged weights."""
    rows = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        for prefix, label in (("", name), ("ema_bbox/", f"{name} (averaged weights)")):
            iteration = run.best(prefix)
            evaluation = run.evaluations.get(iteration, {})
            scores = {key: _number(evaluation.get(prefix + key)) for key in SCORES}
            if not prefix or any(value is not None for value in scores.values()):
                rows.append({"name": label, "run": i, "iteration": iteration, "scores": scores})
    return rows


def group_rows(rows: Sequence[dict], groups: Sequence[Group]) -> list[dict]:
    """Name, number of runs, and (mean, sample standard deviation) of every score of each group;
    None where there are too few runs."""
    scores: dict[int, dict] = {}
    for row in rows:
        scores.setdefault(row["run"], row["scores"])  # not of the averaged weights, which follow
    return [
        {
            "name": group.name,
            "run": group.runs[0],
            "n": len(group.runs),
            "cells": {key: mean_and_spread([scores[i][key] for i in group.runs]) for key in SCORES},
        }
        for group in groups
    ]


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the values that are known."""
    known = [value for value in values if value is not None]
    return (
        statistics.fmean(known) if known else None,
        statistics.stdev(known) if len(known) > 1 else None,
    )


def best_scores(rows: Sequence[dict]) -> dict[str, float | None]:
    """The highest value of each score; None unless several rows have it."""
    best = {}
    for key in SCORES:
        values = [row["scores"][key] for row in rows if row["scores"][key] is not None]
        best[key] = max(values) if len(values) > 1 else None
    return best


def class_rows(
    ground_truth: dict, scores: Sequence[dict[str, float]], groups: Sequence[Group]
) -> list[dict]:
    """Name, number of objects and each group's (mean, deviation) of AP of every class.

    An AP is None for runs that are not scored or a class without objects. ``scores`` are of
    ``evaluate_detections(..., per_class=True)``.
    """
    counts = Counter(a["category_id"] for a in ground_truth["annotations"] if not a["iscrowd"])
    rows = []
    for category_id, name in distinct_names(ground_truth["categories"]).items():
        ap = [_number(run.get(f"AP-{name}")) for run in scores]
        cells = [mean_and_spread([ap[i] for i in group.runs]) for group in groups]
        rows.append({"name": name, "objects": counts[category_id], "ap": cells})
    return rows


def config_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(dotted key, value in each run as text) of every key in which the configs differ."""
    flat = [dict(leaves(run.config)) for run in runs]
    keys = sorted(set().union(*flat) - {*schema.names("is_output")})
    rows = [(key, [config.get(key, "–") for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def version_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(package, version in each run, or the one of all) of every package that a run recorded."""
    versions = [run.record.get("versions", {}) for run in runs]
    packages = sorted(set().union(*versions))
    rows = [(package, [v.get(package, "–") for v in versions]) for package in packages]
    alike = all(len(set(values)) == 1 for _, values in rows)
    return [(package, values[:1]) for package, values in rows] if alike else rows


def _at(node: object, *keys: str) -> object:
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
