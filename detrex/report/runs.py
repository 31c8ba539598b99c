"""What a training run left in its output folder, read back."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detrex.config import CONFIG_FILE
from detrex.config.references import follow_references
from detrex.data.coco import is_id
from detrex.evaluation.alignment import AlignmentReport, load_report
from detrex.evaluation.alignment.report import FILE_NAME
from detrex.evaluation.calibration import CalibrationReport, load_calibration
from detrex.evaluation.calibration.report import FILE_NAME as CALIBRATION
from detrex.evaluation.coco import RESULTS
from detrex.train.folder import BEST_FILES, METRICS, RECORD, read_best, read_record
from detrex.utils.errors import InputError
from detrex.utils.safe_yaml import read_yaml
from detrex.utils.small_files import MEBIBYTE, is_a, read_text

LARGEST_METRICS = 512 * MEBIBYTE
_EVENTS = "events.out.tfevents."


@dataclass(frozen=True)
class Run:
    """One output folder. What the run has not written (yet) is empty or None.

    Attributes:
        name: the folder's name.
        folder: where the run is.
        config: ``config.yaml`` as plain dicts, its references followed.
        record: ``run.json``: command, config as given, overrides, versions, seed, git, ...
        curves: training metric -> (iterations (P,) int, values (P,)), iterations ascending.
        evaluations: iteration -> metric -> score, ascending. Boxes have COCO's names ("AP",
            percentages), everything else its task before a slash ("ema_bbox/AP").
        epoch_length: iterations of one epoch; None for runs that did not note it.
        shown: iteration of the evaluation whose files follow: the best one's where the run has
            kept them, else the last one's.
        detections: its ``coco_instances_results.json``, if it is there.
        alignment: of ``alignment.json``, in the folder or its ``alignment/``, if it is there.
        calibration: of ``calibration.json``, which is beside it.
    """

    name: str
    folder: Path
    config: dict
    record: dict
    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    evaluations: dict[int, dict[str, float]]
    epoch_length: int | None
    shown: int | None
    detections: Path | None
    alignment: AlignmentReport | None
    calibration: CalibrationReport | None

    @property
    def last(self) -> int | None:
        """Iteration of the last evaluation; None before the first."""
        return next(reversed(self.evaluations), None)

    def best(self, prefix: str = "") -> int | None:
        """Iteration of the evaluation with the highest AP, the last one if none has an AP; None
        before the first. ``prefix``: "ema_bbox/" for the averaged weights."""
        known = {i: s.get(f"{prefix}AP", math.nan) for i, s in self.evaluations.items()}
        known = {i: ap for i, ap in known.items() if not math.isnan(ap)}
        return max(known, key=known.__getitem__) if known else self.last

    @property
    def iterations(self) -> int:
        """Iterations done."""
        ends = [int(x[-1]) + 1 for x, _ in self.curves.values()]
        return max(ends, default=self.last or 0)

    @property
    def seconds(self) -> float | None:
        """Time of its iterations, without evaluations; None if it is not logged."""
        if "time" not in self.curves:
            return None
        return float(np.nanmean(self.curves["time"][1])) * self.iterations

    @property
    def started(self) -> str:
        """Day on which it started, as 2026-01-31; of TensorBoard's file for runs that did not
        note it, "" without one."""
        if day := self.record.get("started", "")[:10]:
            return day
        names = (path.name.removeprefix(_EVENTS) for path in self.folder.glob(f"{_EVENTS}*"))
        seconds = [int(name.split(".")[0]) for name in names if name.split(".")[0].isdigit()]
        return datetime.date.fromtimestamp(min(seconds)).isoformat() if seconds else ""


def read_run(folder: str | os.PathLike) -> Run:
    """Read an output folder of ``train_net.py``; the run may still be going on.

    Raises:
        InputError: the folder is not a run's, or one of its files is damaged.
    """
    folder = Path(folder)
    for name in (RECORD, CONFIG_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no output folder of a training run, {name} is missing")
    curves, evaluations = _read_metrics(folder / METRICS)
    record, best = read_record(folder), read_best(folder).get("iteration")
    files = folder / BEST_FILES
    if best not in evaluations or not (files / RESULTS).is_file():
        files, best = folder, next(reversed(evaluations), None)
    detections = files / RESULTS
    alignment, calibration = (_report(folder, files, n) for n in (FILE_NAME, CALIBRATION))
    return Run(
        name=folder.resolve().name,
        folder=folder,
        config=_read_config(folder / CONFIG_FILE),
        record=record,
        curves=curves,
        evaluations=evaluations,
        epoch_length=record.get("epoch_length"),
        shown=best,
        detections=detections if detections.is_file() else None,
        alignment=alignment and load_report(alignment),
        calibration=calibration and load_calibration(calibration),
    )


def _report(folder: Path, files: Path, name: str) -> Path | None:
    """Return a diagnosis's file: of an evaluation, or else of tools/analyze_alignment.py."""
    paths = (files / name, folder / "alignment" / name)
    return next((path for path in paths if path.is_file()), None)


def _read_config(path: Path) -> dict:
    content = read_yaml(path)
    try:
        return follow_references(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_metrics(path: Path) -> tuple[dict, dict]:
    """Curves and evaluations; of an iteration that was repeated after a restart, the later."""
    curves: dict[str, dict[int, float]] = {}
    evaluations: dict[int, dict[str, float]] = {}
    for iteration, numbers in _lines(path):
        for name, value in numbers.items():
            if "/" in name:
                evaluations.setdefault(iteration, {})[name.removeprefix("bbox/")] = value
            else:
                curves.setdefault(name, {})[iteration] = value
    arrays = {name: _arrays(points) for name, points in curves.items()}
    return arrays, dict(sorted(evaluations.items()))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    lines = read_text(path, LARGEST_METRICS).split("\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            numbers = json.loads(line or "{}")
        except (ValueError, RecursionError):
            if number == len(lines):  # it may be in the course of being written
                return
            raise InputError(f"{path}: line {number} is damaged: remove it") from None
        if not is_a(numbers, dict[str, float]) or line and not is_id(numbers.get("iteration")):
            raise InputError(f"{path}: line {number} is damaged, not numbers by name: remove it")
        if line:
            yield numbers.pop("iteration"), {k: float(v) for k, v in numbers.items()}


def _arrays(points: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    iterations = sorted(points)
    return np.array(iterations), np.array([points[i] for i in iterations])
