"""What differs between runs: names, scores, classes, configs, versions."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from detrex.config import schema
from detrex.data.coco import distinct_names
from detrex.evaluation.coco_scores import SCORES

from .runs import Run


def unique_names(runs: Sequence[Run]) -> list[str]:
    """The ends of the runs' paths, as long as it takes to tell them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names


def score_rows(runs: Sequence[Run], names: Sequence[str]) -> list[dict]:
    """Name, iteration and last COCO scores (None: not evaluated) of each run and of its averaged
    weights."""
    rows = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        iteration = next(reversed(run.evaluations), None)
        for prefix, label in (("", name), ("ema_bbox/", f"{name} (averaged weights)")):
            scores = {key: _number(run.scores.get(prefix + key)) for key in SCORES}
            if not prefix or any(value is not None for value in scores.values()):
                rows.append({"name": label, "run": i, "iteration": iteration, "scores": scores})
    return rows


def best_scores(rows: Sequence[dict]) -> dict[str, float | None]:
    """The highest value of each score; None unless several rows have it."""
    best = {}
    for key in SCORES:
        values = [row["scores"][key] for row in rows if row["scores"][key] is not None]
        best[key] = max(values) if len(values) > 1 else None
    return best


def class_rows(ground_truth: dict, scores: Sequence[dict[str, float]]) -> list[dict]:
    """Name, number of objects and each run's AP of every class.

    An AP is None for a run that is not scored or a class without objects. ``scores`` are of
    ``evaluate_detections(..., per_class=True)``.
    """
    counts = Counter(a["category_id"] for a in ground_truth["annotations"] if not a["iscrowd"])
    rows = []
    for category_id, name in distinct_names(ground_truth["categories"]).items():
        ap = [_number(run.get(f"AP-{name}")) for run in scores]
        rows.append({"name": name, "objects": counts[category_id], "ap": ap})
    return rows


def config_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(dotted key, value in each run as text) of every key in which the configs differ."""
    flat = [dict(_leaves(run.config)) for run in runs]
    keys = sorted(set().union(*flat) - {*schema.names("is_output")})
    rows = [(key, [config.get(key, "–") for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def version_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(package, version in each run) of every package that a run recorded."""
    versions = [run.record.get("versions", {}) for run in runs]
    packages = sorted(set().union(*versions))
    return [(package, [v.get(package, "–") for v in versions]) for package in packages]


def _leaves(node: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str, ensure_ascii=False)


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
