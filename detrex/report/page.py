"""Runs side by side as one HTML file that needs no other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from detrex.data.annotation_files import annotation_files
from detrex.data.coco import distinct_names
from detrex.data.coco_rules import image_file
from detrex.evaluation.alignment.collector import read_truths
from detrex.evaluation.calibration.image import KINDS
from detrex.evaluation.coco_json import load_detection_rows, load_ground_truth
from detrex.evaluation.coco_scores import SCORES, score_detections
from detrex.evaluation.matching import Truth
from detrex.evaluation.origin import foreign
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.optional import need_package
from detrex.utils.small_files import is_a

from . import calibration_figures, compare, figures, gallery, tallies
from .groups import Group, group_by_config, run_names
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
        truths: image id -> its objects.
        category_ids: ascending; a class is a number in them.
        scores: of each run, by class; {} without detections on this data.
        judged: detections of each run, see :func:`.gallery.judge_run`; None without.
        notes: why runs are left out.
    """

    json_file: str = ""
    images: str = ""
    truth: dict | None = None
    truths: dict[int, Truth] = field(default_factory=dict)
    category_ids: list[int] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    judged: list[np.ndarray | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_report(
    runs: Sequence[Run], path: str | os.PathLike, images: int = 96, threshold: float = 0.3
) -> list[str]:
    """Write runs side by side as a page.

    Args:
        runs: at least one.
        path: HTML file to write.
        images: the most images that are shown.
        threshold: least score of a detection that counts in choosing them; the page's slider begins
            with it.

    Returns:
        Notes on what was left out and why, which are on the page, too.

    Raises:
        InputError: Jinja2 or Plotly is missing, or detections do not fit their ground truth.
    """
    for module in ("jinja2", "plotly"):
        need_package(module, "detrex[report]")
    import jinja2
    from plotly.offline import get_plotlyjs

    runs = [runs[i] for group in group_by_config(runs) for i in group.runs]
    groups = group_by_config(runs)
    names = run_names(runs, groups)
    evaluated = read_evaluated(runs, names)
    notes = evaluated.notes + _notes(runs, names)
    sections = _figures(runs, names)
    scores = compare.score_rows(runs, names)
    entries = _entries(runs, names, groups)
    data = {
        "runs": [{key: entry[key] for key in ("name", "style", "epoch")} for entry in entries],
        "groups": [{"name": group.name, "runs": group.runs} for group in groups],
        "curves": figures.curves(runs),
        "figures": [figure for section in sections.values() for figure in section],
        "thresholds": [run.calibration and _class_rows(run) for run in runs],
        **_detections(evaluated, images, threshold),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    page = environment.get_template("page.html").render(
        runs=entries,
        groups=groups,
        common=compare.common_facts([entry["facts"] for entry in entries]),
        title=_title(groups),
        scores=scores,
        means=compare.group_rows(scores, groups),
        best=compare.best_scores(scores),
        metrics=[*SCORES],
        judged=any(rows is not None for rows in evaluated.judged),
        classes=_classes(evaluated, groups),
        config=compare.config_rows([runs[group.runs[0]] for group in groups]),
        only_config=yaml.safe_dump(runs[0].config, allow_unicode=True, width=110)
        if len(groups) == 1
        else "",
        versions=compare.version_rows(runs),
        sections=sections,
        calibration_errors=calibration_figures.error_rows(_with(runs, names, "calibration")),
        data=finite(data),
        notes=notes,
        threshold=threshold,
        kind_names=calibration_figures.KIND_NAMES,
        kind_colors=calibration_figures.KIND_COLORS,
        plotly=get_plotlyjs(),
        scripts=[(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS],
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        date=datetime.date.today().isoformat(),
    )
    with atomic_write(path) as stream:
        stream.write(page)
    return notes


SCRIPTS = ("page.js", "plots.js", "gallery.js")


def read_evaluated(runs: Sequence[Run], names: Sequence[str]) -> Evaluated:
    """Read the runs' detections; a run that cannot be compared becomes a note.

    Raises:
        InputError: detections that do not fit the ground truth that their run names.
    """
    evaluated = Evaluated()
    for run, name in zip(runs, names, strict=True):
        evaluated.scores.append({})
        evaluated.judged.append(None)
        if run.detections is None:
            evaluated.notes.append(f"{name}: no detections yet, left out of classes and images")
            continue
        try:
            files = annotation_files(run.config)
        except InputError as error:
            evaluated.notes.append(f"{name}: left out of classes and images: {error}")
            continue
        if fault := foreign(run.folder, files[0], run.last):
            evaluated.notes.append(f"{name}: left out of classes and images: {fault}")
            continue
        if evaluated.truth is None:
            _read_truth(evaluated, *files)
        if not os.path.samefile(files[0], evaluated.json_file):
            left_out = f"other data ({files[0]}), left out of classes and images"
            evaluated.notes.append(f"{name}: {left_out}")
            continue
        rows = load_detection_rows(run.detections, evaluated.truth)
        evaluated.scores[-1] = score_detections(evaluated.truth, rows, per_class=True)
        judged = gallery.judge_run(rows, evaluated.truths, evaluated.category_ids)
        evaluated.judged[-1] = judged
    return evaluated


def _read_truth(evaluated: Evaluated, json_file: str, images: str) -> None:
    truth = load_ground_truth(json_file)
    for section, kinds in _SHOWN.items():
        for entry in truth[section]:
            if not is_a(entry, kinds):
                raise InputError(f"{json_file}: {section}: {entry!r:.80}: needs {', '.join(kinds)}")
    evaluated.json_file, evaluated.images, evaluated.truth = json_file, images, truth
    evaluated.category_ids = sorted(category["id"] for category in truth["categories"])
    try:
        evaluated.truths = read_truths(truth, evaluated.category_ids)
    except InputError as error:
        raise InputError(f"{json_file}: {error}") from None


def _detections(evaluated: Evaluated, count: int, threshold: float) -> dict:
    """Values for the page's sections on errors and images."""
    runs = [rows for rows in evaluated.judged if rows is not None]
    if not runs:
        return {"images": []}
    truths, names = [*evaluated.truths.values()], distinct_names(evaluated.truth["categories"])
    objects = np.array([len(truth.labels) for truth in truths])
    labels = np.concatenate([truth.labels for truth in truths])
    by_class = np.bincount(labels, minlength=len(names))
    numbers = sorted(gallery.choose_images(runs, objects, threshold, count))
    images = [
        {
            "name": image["file_name"],
            "size": [image["width"], image["height"]],
            "uri": gallery.data_uri(
                Path(image_file(evaluated.json_file, evaluated.images, image["file_name"]))
            ),
            **gallery.packed_truth(truths[number]),
        }
        for number in numbers
        for image in [evaluated.truth["images"][number]]
    ]
    names_of_kinds, colors = calibration_figures.KIND_NAMES, calibration_figures.KIND_COLORS
    kinds = [(kind, names_of_kinds[kind], colors[kind]) for kind in (*KINDS, "missed")]
    return {
        "classes": [names[id_] for id_ in evaluated.category_ids],
        "kinds": kinds,
        "images": images,
        "all_images": len(truths),
        "objects": len(labels),
        "boxes": [r if r is None else gallery.packed(r, numbers) for r in evaluated.judged],
        "counts": [r if r is None else tallies.by_kind(r) for r in evaluated.judged],
        "confusion": [
            r if r is None else tallies.confused_classes(r, by_class) for r in evaluated.judged
        ],
    }


def _notes(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """What of the runs is not of their best evaluation, or not there at all."""

    def who(chosen: Sequence[bool]) -> str:
        chosen_names = [name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]
        return ", ".join(chosen_names) if len(chosen_names) < 4 else f"{len(chosen_names)} runs"

    notes = []
    if early := who([run.best() != run.last for run in runs]):
        notes.append(
            f"{early}: the best AP is of an earlier evaluation than the last; classes, errors, "
            "images and diagnosis are of the last"
        )
    for kind, what in (("alignment", "ranking"), ("calibration", "calibration")):
        if without := who([not getattr(run, kind) for run in runs]):
            notes.append(
                f"{without}: no {kind}.json, left out of {what}: train with "
                "dataloader.evaluator.diagnose=True, or run tools/analyze_alignment.py"
            )
    return notes


def _entries(runs: Sequence[Run], names: Sequence[str], groups: Sequence[Group]) -> list[dict]:
    places = {i: (g, m) for g, group in enumerate(groups) for m, i in enumerate(group.runs)}
    return [
        {
            "name": name,
            "style": figures.line_style(*places[i]),
            "epoch": run.epoch_length,
            "facts": compare.facts(run),
            "run": run,
        }
        for i, (name, run) in enumerate(zip(names, runs, strict=True))
    ]


def _title(groups: Sequence[Group]) -> str:
    names = [group.name for group in groups]
    return " · ".join(names) if len(names) < 4 else f"{len(names)} variants"


def _with(runs: Sequence[Run], names: Sequence[str], kind: str) -> figures.Named:
    """The runs that have a report of their diagnosis."""
    rows = ((i, name, getattr(runs[i], kind)) for i, name in enumerate(names))
    return [row for row in rows if row[2]]


def _figures(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[dict]]:
    """The figures of each section."""
    aligned = [row for row in _with(runs, names, "alignment") if row[2].layers]
    calibrated = _with(runs, names, "calibration")
    return {
        "ranking": figures.alignment_figures(aligned) if aligned else [],
        "calibration": calibration_figures.calibration_figures(calibrated) if calibrated else [],
        "errors": calibration_figures.error_figures(calibrated) if calibrated else [],
    }


def _class_rows(run: Run) -> list[list]:
    return calibration_figures.class_rows(run.calibration)


def _classes(evaluated: Evaluated, groups: Sequence[Group]) -> list[dict]:
    if evaluated.truth is None:
        return []
    return compare.class_rows(evaluated.truth, evaluated.scores, groups)
