"""The files of a run besides its checkpoints, and the protection of an earlier run's files."""

from __future__ import annotations

import ast
import itertools
import json
import logging
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from detrex.checkpoint.files import LAST
from detrex.config import (
    CONFIG_FILE,
    config_differences,
    config_yaml,
    is_reproducible,
    schema,
)
from detrex.config.trust import remember
from detrex.evaluation.coco import RESULTS
from detrex.evaluation.origin import ORIGIN
from detrex.utils.collect_env import package_versions
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.small_files import is_a, read_json_object
from detrex.utils.text import first_few

logger = logging.getLogger(__name__)
RECORD = "run.json"
BEST = "best.json"
BEST_FILES = "best"  # folder of that evaluation's files
METRICS = "metrics.json"
FINAL, LATEST, BEST_WEIGHTS = "model_final", "model_latest", "model_best"
_SOURCES = "config_sources"
_EVENTS = "events.out.tfevents."
_CHECKPOINT = re.compile(r"model_(\d{7,}|final|latest|best)\.pth")
_GIT = {"commit": str, "changed_files": list[str]}
# Keys of run.json that are read again, and the types of their values.
_KINDS = {
    "config": dict,
    "seed": int,
    "command": str,
    "overrides": list[str],
    "matcher_change_iter": list[int | None],
    "epoch_length": int | None,
    "data": dict,
    "versions": dict[str, str],
    "parameters": int,
    "hardware": str,
    "started": str,
    "git": (_GIT, None),
    "config_git": (_GIT, None),
}
# Patterns of the files and folders of a run and its evaluations. The log is not moved.
_LEFT_BY_RUNS = (
    *(LAST, BEST, METRICS, RECORD, CONFIG_FILE, _SOURCES, RESULTS, ORIGIN),
    *("*.pth", f"{_EVENTS}*", "alignment.json", "calibration.json", "alignment"),
    *("ema", "inference", BEST_FILES),
    "eval_*",
)


def read_record(folder: Path) -> dict:
    """Return the record of the run that the folder holds; empty if there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / RECORD
    record = read_json_object(path, _KINDS) if path.exists() else {}
    if not 0 <= record.get("seed", 0) < 2**32:  # numpy's range
        raise InputError(f"{path}: seed is damaged: {record['seed']}")
    return record


def read_best(folder: Path) -> dict:
    """Return ``best.json``: metric, value and iteration of ``model_best.pth``, and "val", the
    fingerprint of the validation data; empty if there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / BEST
    if not path.exists():
        return {}
    best = read_json_object(path, {})
    if not is_a(best, {"value": float}) or not math.isfinite(best["value"]):
        raise InputError(f"{path}: value is no number: remove it, the next evaluation is the best")
    return best


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return every checkpoint of a run in the folder, in no order."""
    return [path for path in folder.glob("model_*.pth") if _CHECKPOINT.fullmatch(path.name)]


def holds_run(folder: Path) -> bool:
    """Whether files of a training run are in the folder."""
    return (folder / RECORD).exists() or bool(saved_checkpoints(folder))


def check_output_folder(folder: Path, config: dict, resume: bool, reuse: bool) -> None:
    """Refuse to mix two runs in one folder.

    Args:
        folder: may not exist yet.
        config: of the new run, from ``json_config``.
        resume: the run continues; differences are only reported.
        reuse: the files in the folder may be replaced.

    Raises:
        InputError: the folder holds a run of another config, or checkpoints of this one; or the run
            to continue is damaged.
    """
    if reuse:
        return
    if resume:
        read_best(folder)  # now: damage in it would end the run later
    record = read_record(folder)
    saved, differences = record.get("config"), []
    if saved is not None:
        drawn = record.get("seed")
        differences = list(config_differences(_lasting(config, drawn), _lasting(saved, drawn)))
    shown = first_few(differences, separator="; ")
    if resume:
        if differences:
            logger.warning("resuming with a changed config: %s", shown)
        return
    if differences:
        raise InputError(
            f"output folder {folder} holds a run of another config ({shown}): give another "
            "train.output_dir, or --reuse-output to start a new run in it"
        )
    if saved := saved_checkpoints(folder):
        names = first_few([path.name for path in saved])
        raise InputError(
            f"output folder {folder} holds checkpoints ({names}): give --resume to continue, "
            "another train.output_dir, or --reuse-output to start a new run in it"
        )


def check_regular_files(folder: Path, lock: str) -> None:
    """Check the files that a run adds to: opening a FIFO would wait for ever.

    Raises:
        InputError: one is no regular file.
    """
    for path in (folder / lock, folder / METRICS, *folder.glob("log.txt*")):
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file: a run writes there, remove it")


def write_record(folder: Path, cfg: DictConfig, record: dict, config_file: str) -> None:
    """Write the resolved config, ``config.yaml``, and how to repeat the run, ``run.json``.

    Lambdas in a config cannot be loaded from YAML: its source files are copied as well.
    """
    with atomic_write(folder / CONFIG_FILE) as stream:
        if not is_reproducible(cfg):
            stream.write("# Not loadable: the config has functions without a name. Its source\n")
            stream.write("# files are in config_sources/, the overrides in run.json.\n")
            _copy_sources(Path(config_file).expanduser().resolve(), folder / _SOURCES)
        stream.write(text := config_yaml(cfg))
    remember(text)
    versions = {"python": platform.python_version(), **package_versions()}
    record = {**record, "versions": versions}
    # A fork's configs may be in a repository of their own.
    record |= {
        "git": _git(Path(__file__).parent),
        "config_git": _git(Path(config_file).expanduser().parent),
    }
    with atomic_write(folder / RECORD) as stream:
        json.dump(record, stream, indent=1, sort_keys=True)


def _lasting(config: dict, drawn: int | None) -> dict:
    """Return a copy of the config for comparison: with the defaults of keys that an older version
    lacks, without volatile keys, and with the seed ``drawn`` if it has none."""
    config = json.loads(json.dumps(config))
    schema.add_defaults(config)
    train = schema.parent(config, "train.seed")
    if is_a(seed := train.get("seed"), int) and seed < 0:
        train["seed"] = drawn
    for name in schema.names("volatile"):
        schema.parent(config, name).pop(name.rpartition(".")[2], None)
    return config


def _git(folder: Path) -> dict | None:
    """Return the commit of the folder's checkout and its local changes; None outside a checkout."""
    try:
        commit = _ask_git(folder, "rev-parse HEAD")[0]
        changes = _ask_git(folder, "status --porcelain -uno")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed_files": [line[3:] for line in changes]}


def _ask_git(folder: Path, question: str) -> list[str]:
    command = ["git", "-C", str(folder.resolve()), *question.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _copy_sources(config_file: Path, target: Path) -> None:
    files = set(_sources(config_file))
    root = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        with atomic_write(target / file.relative_to(root)) as stream:
            stream.write(file.read_text(encoding="utf-8"))


def _sources(file: Path) -> Iterator[Path]:
    """Yield a config file and the files of its relative imports, by LazyConfig's rules."""
    yield file
    if file.suffix != ".py":
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            folder = file.parents[node.level - 1]
            yield from _sources(folder.joinpath(*node.module.split(".")).with_suffix(".py"))


def set_aside(folder: Path) -> None:
    """Move an earlier run's files to ``replaced/1``, or ``replaced/2`` if that exists, and so on.

    In the folder its checkpoints could be resumed by mistake, or deleted as old ones.
    """
    files = [path for pattern in _LEFT_BY_RUNS for path in folder.glob(pattern)]
    targets = (folder / "replaced" / str(i) for i in itertools.count(1))
    target = next(path for path in targets if not path.exists())
    for path in files:
        target.mkdir(parents=True, exist_ok=True)
        path.replace(target / path.name)


def put_events_in_order(folder: Path, now: int) -> None:
    """Rename TensorBoard's files whose clock was ahead: it reads files in the order of the seconds
    in their names, and would read the part that a resumed run adds first.

    Args:
        folder: of the run.
        now: seconds since the epoch.
    """
    for number, path in enumerate(sorted(folder.glob(f"{_EVENTS}*"))):
        seconds, _, rest = path.name.removeprefix(_EVENTS).partition(".")
        # Those of the second before, too: their renamed files would sort behind them.
        if seconds.isdigit() and int(seconds) >= now - 1:
            rest = re.sub(r"^\d{4}\.", "", rest)
            path.rename(folder / f"{_EVENTS}{now - 1:010d}.{number:04d}.{rest}")


def rewind_metrics(folder: Path, step: int, evaluation: int) -> None:
    """Remove from the metrics file what a resumed run will write again, and a half-written line.

    Args:
        folder: of the run.
        step: number of the first step that is repeated.
        evaluation: number of iterations done at the first evaluation that is repeated.
    """
    path = folder / METRICS
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    entries = [(line, _numbers(line)) for line in lines]
    if damaged := sum(numbers is None for _, numbers in entries[:-1]):
        logger.warning("%s: %d damaged lines are left out", path, damaged)
    with atomic_write(path) as stream:
        for line, numbers in entries:
            if numbers and numbers["iteration"] < (step if "total_loss" in numbers else evaluation):
                stream.write(line)


def read_metrics(folder: Path) -> list[dict]:
    """Return the lines of the metrics file, without damaged ones; none if there is no file."""
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [numbers for line in lines if (numbers := _numbers(line)) is not None]


def _numbers(line: str) -> dict | None:
    """Return a line of metrics; None for a damaged one, such as half a line of a killed process."""
    try:
        numbers = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return numbers if is_a(numbers, {"iteration": int}) else None
