"""What a training run left in its output folder, read back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detrex.config import CONFIG_FILE
from detrex.engine.run_folder import METRICS, RECORD
from detrex.evaluation.alignment import AlignmentReport, load_report
from detrex.evaluation.alignment.report import FILE_NAME
from detrex.evaluation.coco import RESULTS
from detrex.utils.errors import InputError
from detrex.utils.text import first_line


@dataclass(frozen=True)
class Run:
    """One output folder. What the run has not written (yet) is empty or None.

    Attributes:
        name: the folder's name.
        folder: where the run is.
        config: ``config.yaml`` as plain dicts, interpolations resolved.
        record: ``run.json``: command, config as given, overrides, versions, seed, git, ...
        curves: training metric -> (iterations (P,) int, values (P,)), iterations ascending.
        evaluations: iteration -> metric -> score, ascending. Boxes have COCO's names ("AP",
            percentages), everything else its task before a slash ("ema_bbox/AP").
        epoch_length: iterations of one epoch; None for runs that did not note it.
        detections: the last evaluation's ``coco_instances_results.json``, if it is there.
        alignment: of ``alignment.json``, in the folder or its ``alignment/``, if it is there.
    """

    name: str
    folder: Path
    config: dict
    record: dict
    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    evaluations: dict[int, dict[str, float]]
    epoch_length: int | None
    detections: Path | None
    alignment: AlignmentReport | None

    @property
    def scores(self) -> dict[str, float]:
        """The last evaluation's scores; empty before the first."""
        return next(reversed(self.evaluations.values()), {})


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
    record, detections = _read_json(folder / RECORD), folder / RESULTS
    found = [p for p in (folder / FILE_NAME, folder / "alignment" / FILE_NAME) if p.exists()]
    return Run(
        name=folder.resolve().name,
        folder=folder,
        config=_read_config(folder / CONFIG_FILE),
        record=record,
        curves=curves,
        evaluations=evaluations,
        epoch_length=record.get("epoch_length"),
        detections=detections if detections.is_file() else None,
        alignment=load_report(found[0]) if found else None,
    )


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a record")
    return content


class _PlainLoader(yaml.SafeLoader):
    """Reads the classes that a config names as their names: comparing runs imports nothing."""


def _as_plain(loader: yaml.Loader, tag: str, node: yaml.Node) -> list | str:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return tag.partition(":")[2]


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _as_plain)


def _read_config(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
        return OmegaConf.to_container(OmegaConf.create(content or {}), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise InputError(f"{path}: not a run's config ({first_line(error)})") from None


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
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            numbers = json.loads(line)
            yield numbers.pop("iteration"), numbers
        except (ValueError, KeyError, TypeError, AttributeError):
            if number < len(lines):  # the last line may be in the course of being written
                raise InputError(f"{path}: line {number} is damaged: remove it") from None


def _arrays(points: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    iterations = sorted(points)
    return np.array(iterations), np.array([points[i] for i in iterations])
