"""Runs side by side as one HTML file that needs no other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detrex.data.annotation_files import annotation_files
from detrex.data.coco_rules import image_file
from detrex.evaluation.coco_json import load_detections, load_ground_truth
from detrex.evaluation.coco_scores import SCORES, evaluate_detections
from detrex.evaluation.origin import foreign
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.optional import need_package
from detrex.utils.small_files import is_a

from . import calibration_figures, compare, figures
from .hardest import data_uri, hardest_images
from .runs import Run

HERE = Path(__file__).parent
_SHOWN = {
    "images": {"file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
}


@dataclass
class Evaluated:
    """Ground truth of the first run that has it on this machine, and all runs' results on it.

    Attributes:
        json_file: the ground truth's file.
        images: folder of its images.
        truth: its content.
        scores: of each run, by class; {} without detections on this data.
        confident: detections of each run above the threshold; None without.
        notes: why runs are left out.
    """

    json_file: str = ""
    images: str = ""
    truth: dict | None = None
    scores: list[dict[str, float]] = field(default_factory=list)
    confident: list[list[dict] | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_report(
    runs: Sequence[Run], path: str | os.PathLike, images: int = 12, threshold: float = 0.3
) -> list[str]:
    """Write runs side by side as a page.

    Args:
        runs: at least one.
        path: HTML file to write.
        images: the most of the hardest images that are shown.
        threshold: least score of a detection that is shown and judged on them.

    Returns:
        Notes on what was left out and why, which are on the page, too.

    Raises:
        InputError: Jinja2 or Plotly is missing, or detections do not fit their ground truth.
    """
    for module in ("jinja2", "plotly"):
        need_package(module, "detrex[report]")
    import jinja2
    from plotly.offline import get_plotlyjs

    names = compare.unique_names(runs)
    evaluated = read_evaluated(runs, names, threshold)
    scores, drawn = compare.score_rows(runs, names), _figures(runs, names)
    honest = _calibration(runs, names)
    entries = [
        {"name": name, "style": figures.line_style(i), "epoch": run.epoch_length, "run": run}
        for i, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    lines = [{key: entry[key] for key in ("name", "style", "epoch")} for entry in entries]
    data = {"runs": lines, "curves": figures.curves(runs), "figures": drawn + honest["honest"]}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html").render(
        runs=entries,
        scores=scores,
        best=compare.best_scores(scores),
        metrics=[*SCORES],
        **_images(evaluated, names, images, threshold),
        classes=compare.class_rows(evaluated.truth, evaluated.scores) if evaluated.truth else [],
        config=compare.config_rows(runs),
        versions=compare.version_rows(runs),
        figures=drawn,
        **honest,
        data=finite(data),
        notes=evaluated.notes,
        plotly=get_plotlyjs(),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        date=datetime.date.today().isoformat(),
    )
    with atomic_write(path) as stream:
        stream.write(page)
    return evaluated.notes


def read_evaluated(runs: Sequence[Run], names: Sequence[str], threshold: float) -> Evaluated:
    """Read the runs' detections; a run that cannot be compared becomes a note.

    Raises:
        InputError: detections that do not fit the ground truth that their run names.
    """
    evaluated = Evaluated()
    for run, name in zip(runs, names, strict=True):
        evaluated.scores.append({})
        evaluated.confident.append(None)
        if run.detections is None:
            evaluated.notes.append(f"{name}: no detections yet, left out of classes and images")
            continue
        try:
            files = annotation_files(run.config)
        except InputError as error:
            evaluated.notes.append(f"{name}: left out of classes and images: {error}")
            continue
        if fault := foreign(run.folder, files[0], next(reversed(run.evaluations), None)):
            evaluated.notes.append(f"{name}: left out of classes and images: {fault}")
            continue
        if evaluated.truth is None:
            evaluated.json_file, evaluated.images = files
            evaluated.truth = _shown_truth(evaluated.json_file)
        if not os.path.samefile(files[0], evaluated.json_file):
            left_out = f"other data ({files[0]}), left out of classes and images"
            evaluated.notes.append(f"{name}: {left_out}")
            continue
        detections = load_detections(run.detections, evaluated.truth)
        evaluated.scores[-1] = evaluate_detections(evaluated.truth, detections, per_class=True)
        evaluated.confident[-1] = [d for d in detections if d["score"] >= threshold]
    return evaluated


def _shown_truth(json_file: str) -> dict:
    truth = load_ground_truth(json_file)
    for section, kinds in _SHOWN.items():
        for entry in truth[section]:
            if not is_a(entry, kinds):
                raise InputError(f"{json_file}: {section}: {entry!r:.80}: needs {', '.join(kinds)}")
    return truth


def _images(evaluated: Evaluated, names: Sequence[str], count: int, threshold: float) -> dict:
    """Values for the page's section of hardest images."""
    if evaluated.truth is None:
        return dict(hardest=[], judged=[], threshold=threshold, labels={})
    pairs = zip(names, evaluated.confident, strict=True)
    judged = [(name, detections) for name, detections in pairs if detections is not None]
    hardest = []
    for entry in hardest_images(evaluated.truth, [detections for _, detections in judged], count):
        path = image_file(evaluated.json_file, evaluated.images, entry[0]["file_name"])
        hardest.append((*entry, data_uri(Path(path))))
    labels = {c["id"]: c["name"] for c in evaluated.truth["categories"]}
    judged_names = [name for name, _ in judged]
    return dict(hardest=hardest, judged=judged_names, threshold=threshold, labels=labels)


def _figures(runs: Sequence[Run], names: Sequence[str]) -> list[dict]:
    reports = enumerate(zip(names, (run.alignment for run in runs), strict=True))
    named = [(i, name, report) for i, (name, report) in reports if report and report.layers]
    return figures.alignment_figures(named) if named else []


def _calibration(runs: Sequence[Run], names: Sequence[str]) -> dict:
    """Values for the page's section of scores."""
    pairs = enumerate(zip(names, (run.calibration for run in runs), strict=True))
    named = [(i, name, report) for i, (name, report) in pairs if report]
    if not named:
        return dict(honest=[], honest_runs=[], calibration_errors=[], thresholds=[])
    return dict(
        honest=calibration_figures.calibration_figures(named),
        honest_runs=[name for _, name, _ in named],
        calibration_errors=calibration_figures.error_rows(named),
        thresholds=calibration_figures.threshold_rows(named),
    )
