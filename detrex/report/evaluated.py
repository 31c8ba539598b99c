"""The runs' detections, judged and packed for the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detrex.data.annotation_files import annotation_files
from detrex.data.coco import distinct_names
from detrex.data.coco_rules import image_file
from detrex.evaluation.alignment.collector import read_truths
from detrex.evaluation.calibration.image import KINDS
from detrex.evaluation.coco_json import has_objects, load_detection_rows, load_ground_truth
from detrex.evaluation.coco_scores import score_detections
from detrex.evaluation.matching import Truth
from detrex.evaluation.origin import foreign
from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a

from . import gallery, tallies
from .calibration_figures import KIND_COLORS, KIND_NAMES
from .runs import Run

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
        if fault := foreign(run.detections.parent, files[0], run.shown):
            evaluated.notes.append(f"{name}: left out of classes and images: {fault}")
            continue
        if evaluated.truth is None:
            _read_truth(evaluated, *files)
        if not os.path.samefile(files[0], evaluated.json_file):
            left_out = f"other data ({files[0]}), left out of classes and images"
            evaluated.notes.append(f"{name}: {left_out}")
            continue
        if not evaluated.truths:
            left_out = f"no objects in {files[0]}, left out of classes and images"
            evaluated.notes.append(f"{name}: {left_out}")
            continue
        rows = load_detection_rows(run.detections, evaluated.truth)
        evaluated.scores[-1] = score_detections(evaluated.truth, rows, per_class=True)
        evaluated.judged[-1] = gallery.judge_run(rows, evaluated.truths, evaluated.category_ids)
    return evaluated


def _read_truth(evaluated: Evaluated, json_file: str, images: str) -> None:
    truth = load_ground_truth(json_file)
    for section, kinds in _SHOWN.items():
        for entry in truth[section]:
            if not is_a(entry, kinds):
                raise InputError(f"{json_file}: {section}: {entry!r:.80}: needs {', '.join(kinds)}")
    evaluated.json_file, evaluated.images, evaluated.truth = json_file, images, truth
    evaluated.category_ids = sorted(category["id"] for category in truth["categories"])
    if has_objects(truth):
        evaluated.truths = read_truths(truth, evaluated.category_ids)


def page_data(evaluated: Evaluated, count: int, threshold: float) -> dict:
    """Values for the page's sections on errors and images."""
    runs = [rows for rows in evaluated.judged if rows is not None]
    if not runs:
        return {"images": []}
    truths, names = [*evaluated.truths.values()], distinct_names(evaluated.truth["categories"])
    objects = np.array([len(truth.labels) for truth in truths])
    labels = np.concatenate([truth.labels for truth in truths])
    by_class = np.bincount(labels, minlength=len(names))
    chosen = gallery.choose_images(runs, objects, threshold, count)
    addresses = _images(evaluated, chosen)
    numbers = sorted(addresses)
    images = [
        {
            "name": image["file_name"],
            "size": [image["width"], image["height"]],
            "uri": addresses[number],
            **gallery.packed_truth(truths[number]),
        }
        for number in numbers
        for image in [evaluated.truth["images"][number]]
    ]
    kinds = [(kind, KIND_NAMES[kind], KIND_COLORS[kind]) for kind in (*KINDS, "missed")]
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


def _images(evaluated: Evaluated, numbers: Sequence[int]) -> dict[int, str]:
    """The chosen images by number, the first ones as far as there is room on the page."""
    addresses: dict[int, str] = {}
    room = gallery.MOST_BYTES
    for number in numbers:
        name = evaluated.truth["images"][number]["file_name"]
        path = image_file(evaluated.json_file, evaluated.images, name)
        address = gallery.data_uri(Path(path))
        room -= len(address)
        if room < 0:
            break
        addresses[number] = address
    return addresses
