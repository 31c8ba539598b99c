"""From runs to one HTML file that needs nothing else."""

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
from detrex.experiments.runs import Run
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.misc import finite
from detrex.utils.optional import need_package
from detrex.utils.small_files import is_a

from . import compare, figures
from .hardest import data_uri, hardest_images

HERE = Path(__file__).parent
_SHOWN = {
    "images": {"file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
}


@dataclass
class Evaluated:
    """Ground truth of the first run that has it here, and what all runs reach on it.

    ``scores[i]`` are run i's by class and ``confident[i]`` its detections above the threshold, all
    that is kept of them; {} and None where it has none on this data, and ``notes`` say why.
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
        images: at most this many of the hardest images are shown.
        threshold: least score of a detection that is shown and judged there.

    Returns what was left out and why, a line each; it is on the page, too.

    Raises:
        InputError: Jinja2 or Plotly is missing, or detections do not fit their ground truth.
    """
    for module in ("jinja2", "plotly"):
        need_package(module, "detrex[report]")
    import jinja2
    from plotly.offline import get_plotlyjs

    names = compare.unique_names(runs)
    evaluated = read_evaluated(runs, names, threshold)
    drawn = _figures(runs, names)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html").render(
        **_scores(runs, names),
        **_images(evaluated, names, images, threshold),
        classes=compare.class_rows(evaluated.truth, evaluated.scores) if evaluated.truth else [],
        config=compare.config_rows(runs),
        versions=compare.version_rows(runs),
        figures=drawn,
        data=finite(_data(runs, names, drawn)),
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
    """Read the runs' detections; what cannot be compared becomes a note.

    Raises:
        InputError: detections that do not fit the ground truth which their run names.
    """
    found = Evaluated()
    for run, name in zip(runs, names, strict=True):
        found.scores.append({})
        found.confident.append(None)
        if run.detections is None:
            found.notes.append(f"{name}: no detections yet, left out of classes and images")
            continue
        try:
            files = annotation_files(run.config)
        except InputError as error:
            found.notes.append(f"{name}: left out of classes and images: {error}")
            continue
        if fault := foreign(run.folder, files[0], next(reversed(run.evaluations), None)):
            found.notes.append(f"{name}: left out of classes and images: {fault}")
            continue
        if found.truth is None:
            found.json_file, found.images = files
            found.truth = _shown_truth(found.json_file)
        if not os.path.samefile(files[0], found.json_file):
            found.notes.append(f"{name}: other data ({files[0]}), left out of classes and images")
            continue
        detections = load_detections(run.detections, found.truth)
        found.scores[-1] = evaluate_detections(found.truth, detections, per_class=True)
        found.confident[-1] = [d for d in detections if d["score"] >= threshold]
    return found


def _shown_truth(json_file: str) -> dict:
    truth = load_ground_truth(json_file)
    for section, kinds in _SHOWN.items():
        for entry in truth[section]:
            if not is_a(entry, kinds):
                raise InputError(f"{json_file}: {section}: {entry!r:.80}: needs {', '.join(kinds)}")
    return truth


def _scores(runs: Sequence[Run], names: Sequence[str]) -> dict:
    rows = compare.score_rows(runs, names)
    styles = [figures.line_style(i) for i in range(len(runs))]
    entries = zip(runs, names, styles, strict=True)
    listed = [{"name": name, "style": style, "run": run} for run, name, style in entries]
    return dict(runs=listed, scores=rows, best=compare.best_scores(rows), metrics=list(SCORES))


def _images(evaluated: Evaluated, names: Sequence[str], count: int, threshold: float) -> dict:
    """Context of the section of hardest images, of the runs that have detections."""
    if evaluated.truth is None:
        return dict(hardest=[], judged=[], threshold=threshold, labels={})
    pairs = zip(names, evaluated.confident, strict=True)
    judged = [(name, found) for name, found in pairs if found is not None]
    chosen = hardest_images(evaluated.truth, [found for _, found in judged], count)
    return dict(
        hardest=[
            (image, objects, verdicts, data_uri(_path(evaluated, image)))
            for image, objects, verdicts in chosen
        ],
        judged=[name for name, _ in judged],
        threshold=threshold,
        labels={c["id"]: c["name"] for c in evaluated.truth["categories"]},
    )


def _path(evaluated: Evaluated, image: dict) -> Path:
    return Path(image_file(evaluated.json_file, evaluated.images, image["file_name"]))


def _figures(runs: Sequence[Run], names: Sequence[str]) -> list[dict]:
    entries = zip(runs, names, strict=True)
    named = [
        (i, n, r.alignment)
        for i, (r, n) in enumerate(entries)
        if r.alignment and r.alignment.layers
    ]
    return figures.alignment_figures(named) if named else []


def _data(runs: Sequence[Run], names: Sequence[str], drawn: list[dict]) -> dict:
    """What the page's script draws."""
    styles = [figures.line_style(i) for i in range(len(runs))]
    entries = [
        {"name": name, "line": style, "epoch": run.epoch_length}
        for run, name, style in zip(runs, names, styles, strict=True)
    ]
    return {"runs": entries, "curves": figures.curves(runs), "figures": drawn}
