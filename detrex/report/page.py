"""Runs side by side as one HTML file that needs no other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from detrex.evaluation.coco_scores import SCORES
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.optional import need_package

from . import calibration_figures, compare, figures
from .evaluated import Evaluated, page_data, read_evaluated
from .groups import Group, group_by_config, run_names
from .runs import Run

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "plots.js", "boxes.js", "gallery.js", "confusion.js", "choices.js")


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
    notes, sections = evaluated.notes + _notes(runs, names), _figures(runs, names)
    entries = _entries(runs, names, groups)
    data = {
        "runs": [{key: entry[key] for key in ("name", "style", "epoch")} for entry in entries],
        "groups": [{"name": group.name, "runs": group.runs} for group in groups],
        "curves": figures.curves(runs),
        "figures": [figure for section in sections.values() for figure in section],
        "thresholds": [run.calibration and _class_rows(run) for run in runs],
        **page_data(evaluated, images, threshold),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    page = environment.get_template("page.html").render(
        **_tables(runs, names, groups, entries),
        runs=entries,
        groups=groups,
        judged=any(rows is not None for rows in evaluated.judged),
        classes=_classes(evaluated, groups),
        sections=sections,
        data=finite(data),
        notes=notes,
        threshold=threshold,
        plotly=get_plotlyjs(),
        scripts=[(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS],
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        date=datetime.date.today().isoformat(),
    )
    with atomic_write(path) as stream:
        stream.write(page)
    return notes


def _tables(
    runs: Sequence[Run], names: Sequence[str], groups: Sequence[Group], entries: Sequence[dict]
) -> dict:
    """Title, scores, settings and errors, by the names of the template."""
    scores = compare.score_rows(runs, names)
    config = yaml.safe_dump(runs[0].config, allow_unicode=True, width=110)
    return dict(
        title=_title(groups),
        common=compare.common_facts([entry["facts"] for entry in entries]),
        scores=scores,
        means=compare.group_rows(scores, groups),
        best=compare.best_scores(scores),
        metrics=[*SCORES],
        config=compare.config_rows([runs[group.runs[0]] for group in groups]),
        only_config=config if len(groups) == 1 else "",
        versions=compare.version_rows(runs),
        calibration_errors=calibration_figures.error_rows(_with(runs, names, "calibration")),
        kind_names=calibration_figures.KIND_NAMES,
        kind_colors=calibration_figures.KIND_COLORS,
    )


def _notes(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """What of the runs is not of their best evaluation, or not there at all."""

    def who(chosen: Sequence[bool]) -> str:
        chosen_names = [name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]
        return ", ".join(chosen_names) if len(chosen_names) < 4 else f"{len(chosen_names)} runs"

    notes = []
    if other := who([run.best() != run.shown for run in runs]):
        notes.append(
            f"{other}: classes, errors, images and diagnosis are not of the evaluation with the "
            "best AP, but of the last, or of the best by another figure"
        )
    for kind, what in (("alignment", "ranking"), ("calibration", "calibration")):
        if without := who([not getattr(run, kind) for run in runs]):
            notes.append(
                f"{without}: no {kind}.json, left out of {what}: train with "
                "dataloader.evaluator.diagnose=True, or run tools/analyze_alignment.py"
            )
    return notes


def _entries(runs: Sequence[Run], names: Sequence[str], groups: Sequence[Group]) -> list[dict]:
    members = {i: (g, m) for g, group in enumerate(groups) for m, i in enumerate(group.runs)}
    return [
        {
            "name": name,
            "style": figures.line_style(*members[i]),
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
    if not any(evaluated.scores):
        return []
    return compare.class_rows(evaluated.truth, evaluated.scores, groups)
