"""A run's checkpoints: saving them, deleting old ones, and continuing from one."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor, nn

from detrex.checkpoint import last_checkpoint, read_checkpoint, save_checkpoint
from detrex.checkpoint.files import LAST, tag_last_checkpoint
from detrex.checkpoint.loading import refuse_non_finite
from detrex.modeling.ema import ModelEma
from detrex.utils.errors import InputError
from detrex.utils.shares import whole_state
from detrex.utils.small_files import is_a
from detrex.utils.text import first_line

from .folder import BEST_WEIGHTS, LATEST, saved_checkpoints
from .sharding import is_sharded
from .trained_on import on_all_processes
from .trainer import Trainer

logger = logging.getLogger(__name__)
_PERIODIC = re.compile(r"model_(\d{7,})\.pth")


class TrainingCheckpoints:
    """Saves a trainer's state and deletes old checkpoints, in the main process.

    Args:
        trainer: whose state is saved.
        folder: of the files.
        metadata: plain description of model and data: format, classes, category_ids, config.
        max_to_keep: number of periodic checkpoints, 1 or more; the oldest beyond it are deleted.
            None: none is deleted.
    """

    def __init__(
        self, trainer: Trainer, folder: str, metadata: dict, max_to_keep: int | None
    ) -> None:
        self.trainer, self.folder = trainer, Path(folder)
        self.metadata, self.max_to_keep = metadata, max_to_keep

    def save(self, name: str, resumable: bool = True) -> None:
        """Write ``<name>.pth``. A resumable one becomes the folder's last checkpoint, and old ones
        are deleted. Every process must call this for a resumable one, and of a sharded model.

        Raises:
            NonFiniteLoss: the last step had one; nothing is written.
        """
        self.trainer.guard.settle()
        if resumable:  # before an evaluation, too
            share_buffers(self.trainer.network, self.trainer.ema)
        metrics = self.trainer.window.state() if resumable else []
        is_main, sharded = comm.is_main_process(), is_sharded(self.trainer.network)
        if not (is_main or sharded):
            return
        data = {
            "metrics": metrics,
            "model": self.trainer.network.state_dict(keep_vars=sharded),
            "trainer": self.trainer.state_dict(),
            "iteration": self.trainer.iter,
            "metadata": self.metadata,
        }
        if self.trainer.ema is not None:
            data["ema_state"] = self.trainer.ema.state_dict()
        if sharded:
            data = whole_state(data, here=is_main)
        if not is_main:
            return
        path = self.folder / f"{name}.pth"
        save_checkpoint(data, path)
        if resumable:
            tag_last_checkpoint(path)
        logger.info("saved %s", path)
        if resumable:
            self._prune()

    def _prune(self) -> None:
        """Delete the oldest periodic checkpoints beyond ``max_to_keep``, and ``model_latest`` once
        there is a later one."""
        if last_checkpoint(self.folder) != (latest := self.folder / f"{LATEST}.pth"):
            latest.unlink(missing_ok=True)
        if self.max_to_keep is not None:
            files = [p for p in saved_checkpoints(self.folder) if _number(p) is not None]
            for path in sorted(files, key=_number)[: -self.max_to_keep]:
                path.unlink()


def share_buffers(model: nn.Module, ema: ModelEma | None) -> None:
    """Give every process the main one's saved buffers, of the model and of its averages.

    Each process computes BatchNorm's running statistics of its own images. With the main process's
    everywhere, one model is evaluated, saved and resumed. Every process must call this.
    """
    if comm.get_world_size() == 1:
        return
    saved = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name not in saved:
            continue
        dist.broadcast(buffer, src=0)
        if ema is not None:
            average = ema.averages[name].to(buffer.device)  # it may live on the CPU
            dist.broadcast(average, src=0)
            ema.averages[name].copy_(average)


def newest_checkpoint(folder: Path) -> tuple[Path | None, dict]:
    """Return the checkpoint to resume from and its content; (None, {}) if there is none.

    This is the last checkpoint; if it is damaged or not recorded, the newest sound one. The main
    process chooses for all, and removes leftovers of interrupted writes. Every process must call
    this.

    Raises:
        InputError: there are checkpoints, but none is sound.
    """
    path, content = on_all_processes(
        lambda: _choose(folder) if comm.is_main_process() else (None, None)
    )
    path = comm.all_gather(path)[0]
    if path is None:
        return None, {}
    return path, on_all_processes(lambda: content or read_checkpoint(path))


def _choose(folder: Path) -> tuple[Path | None, dict | None]:
    for leftover in folder.glob(".*.pth.*"):  # of atomic_write
        leftover.unlink()
    last, unsound = last_checkpoint(folder), []
    if last == folder / f"{BEST_WEIGHTS}.pth":  # it does not say which iteration comes next
        last = None
    for path in _candidates(folder, last):
        try:
            content = read_resumable(path)
        except InputError as error:
            if path.is_file() and not os.access(path, os.R_OK):
                raise
            logger.warning("%s; trying the one before", error)
            unsound.append(path)
        else:
            if last is None:
                logger.warning("no %s: resuming from the newest checkpoint, %s", LAST, path)
            _rename_damaged(unsound)
            return path, content
    if unsound:
        fault = f"none of its {len(unsound)} checkpoints is sound"
    elif saved_checkpoints(folder):
        fault = f"{BEST_WEIGHTS}.pth cannot be resumed from, and it is the only checkpoint"
    else:
        return None, None
    raise InputError(
        f"output folder {folder}: {fault}: start again with --reuse-output, or resume from a copy"
    )


def _candidates(folder: Path, last: Path | None) -> Iterator[Path]:
    """Yield the last checkpoint, then the others, newest first."""
    if last is not None:
        yield last
    others = {*saved_checkpoints(folder)} - {last, folder / f"{BEST_WEIGHTS}.pth"}
    yield from sorted(others, key=_age)


def _number(path: Path) -> int | None:
    """Return the iteration in the name of a periodic checkpoint."""
    match = _PERIODIC.fullmatch(path.name)
    return match and int(match[1])


def _age(path: Path) -> float:
    """Return a number that grows with a checkpoint's age; a damaged one counts as new, so that a
    warning names it before an older one is taken."""
    iteration = _number(path)
    if iteration is None:
        try:
            iteration = read_checkpoint(path).get("iteration")
        except InputError:
            iteration = float("inf")
    return -iteration if is_a(iteration, float) else float("inf")


def _rename_damaged(paths: Iterable[Path]) -> None:
    """Rename files that the resumed run may overwrite: parts of them may be of use."""
    for path in filter(Path.is_file, paths):
        path.replace(path.with_name(f"{path.name}.damaged"))
        logger.warning("%s is kept as %s.damaged", path, path.name)


def read_resumable(path: Path) -> dict:
    """Return the content of a run's checkpoint, after checking that it is sound.

    Raises:
        InputError: it cannot be read, a key has an odd value, or weights are NaN.
    """
    content = read_checkpoint(path)
    iteration, state = content.get("iteration", 0), content.get("trainer", {})
    if type(iteration) is not int or iteration < 0:
        shown = iteration if isinstance(iteration, int | float) else type(iteration).__name__
        raise InputError(f"checkpoint {path}: iteration is {shown}, not a whole number from 0 on")
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {path}: trainer is a {type(state).__name__}, not a dict")
    for key in ("model", "ema_state", "trainer"):
        if (name := next(_nan(content.get(key), key, set()), None)) is not None:
            raise InputError(f"checkpoint {path}: {name} has values that are NaN")
    return content


def _nan(value: object, name: str, seen: set[int]) -> Iterator[str]:
    """Yield the names of tensors with NaN values in nested dicts and lists, each once."""
    if id(value) in seen:
        return
    if isinstance(value, Tensor):
        if value.isnan().any():
            yield name
    elif isinstance(value, dict | list | tuple):
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _nan(item, f"{name}.{key}", seen)


def next_iteration(content: dict, path: Path, max_iter: int) -> int:
    """Return the iteration with which a checkpoint's run continues.

    Raises:
        InputError: the file holds no training state, or belongs to a longer run.
    """
    if "trainer" not in content or not is_a(content.get("iteration"), int):
        raise InputError(f"checkpoint {path} has no training state to resume from")
    done = content["iteration"] + 1
    if done > max_iter:
        raise InputError(
            f"train.max_iter={max_iter}: checkpoint {path} has done {done} iterations already"
        )
    return done


def restore(trainer: Trainer, content: dict, path: Path) -> None:
    """Load a checkpoint's state besides weights and iteration into a trainer.

    Raises:
        InputError: the state belongs to another optimizer, or lacks the averaged weights.
    """
    if trainer.ema is not None and "ema_state" not in content:
        raise InputError(f"checkpoint {path} has no ema_state: resume with the run's own config")
    try:
        trainer.load_state_dict(content["trainer"])
        if trainer.ema is not None:
            trainer.ema.load_state_dict(content["ema_state"])
            refuse_non_finite(trainer.network, trainer.ema.averages, path)
        trainer.window.load_state(content.get("metrics", []))
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        raise InputError(
            f"checkpoint {path} belongs to another model or optimizer: {first_line(error)}"
        ) from error
    except (TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(
            f"checkpoint {path}: its training state cannot be used ({first_line(error)}): move it "
            "elsewhere to go on from the one before"
        ) from error
