"""A run's checkpoints: what they hold, how many are kept, and continuing from them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm

from detrex.checkpoint import check_archive, last_checkpoint, read_checkpoint, save_checkpoint
from detrex.checkpoint.files import LAST, tag_last_checkpoint
from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a

from .run_folder import saved_checkpoints
from .trainer import Trainer

logger = logging.getLogger(__name__)
FINAL, LATEST, BEST_WEIGHTS = "model_final", "model_latest", "model_best"
_PERIODIC = re.compile(r"model_(\d{7,})\.pth")


class TrainingCheckpoints:
    """Saves a trainer's state; only the main process writes.

    Args:
        trainer: what is saved.
        folder: where.
        metadata: plain description of model and data: format, classes, category_ids, config.
        max_to_keep: periodic checkpoints beyond this many are deleted, oldest first; None keeps
            all, else 1 or more.
    """

    def __init__(
        self, trainer: Trainer, folder: str, metadata: dict, max_to_keep: int | None
    ) -> None:
        self.trainer, self.folder = trainer, Path(folder)
        self.metadata, self.max_to_keep = metadata, max_to_keep

    def save(self, name: str, resumable: bool = True) -> None:
        """Write ``<name>.pth``; a resumable one becomes the folder's last checkpoint.

        Every process must call this for a resumable one.

        Raises:
            NonFiniteLoss: the last step had one; nothing is written.
        """
        self.trainer.guard.settle()
        metrics = self.trainer.window.state() if resumable else []
        if not comm.is_main_process():
            return
        data = {
            "metrics": metrics,
            "model": self.trainer.network.state_dict(),
            "trainer": self.trainer.state_dict(),
            "iteration": self.trainer.iter,
            "metadata": self.metadata,
        }
        if self.trainer.ema is not None:
            data["ema_state"] = self.trainer.ema.state_dict()
        path = self.folder / f"{name}.pth"
        save_checkpoint(data, path)
        if resumable:
            tag_last_checkpoint(path)
        logger.info("saved %s", path)

    def prune(self) -> None:
        """Delete the oldest periodic checkpoints beyond ``max_to_keep``, and ``model_latest`` once
        there is a later one."""
        if not comm.is_main_process():
            return
        if last_checkpoint(self.folder) != (latest := self.folder / f"{LATEST}.pth"):
            latest.unlink(missing_ok=True)
        if self.max_to_keep is not None:
            files = [p for p in saved_checkpoints(self.folder) if _number(p) is not None]
            for path in sorted(files, key=_number)[: -self.max_to_keep]:
                path.unlink()


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the file to resume from: the last one, or if it is damaged or not known the newest
    sound one.

    The main process decides for all, and removes what interrupted writes have left.

    Raises:
        InputError: there are checkpoints, but none is sound.
    """
    choice = _choose(folder) if comm.is_main_process() else None
    choice = comm.all_gather(choice)[0]
    if isinstance(choice, InputError):
        raise choice
    return choice


def _choose(folder: Path) -> Path | InputError | None:
    for leftover in folder.glob(".*.pth.*"):  # of atomic_write
        leftover.unlink()
    last, tried = last_checkpoint(folder), 0
    for path in _candidates(folder, last):
        tried += 1
        try:
            check_archive(path)
        except InputError as error:
            logger.warning("%s; trying the one before", error)
        else:
            if last is None:
                logger.warning("no %s: resuming from the newest checkpoint, %s", LAST, path)
            return path
    if tried:
        fault = f"none of its {tried} checkpoints is sound"
    elif saved_checkpoints(folder):
        fault = f"of {BEST_WEIGHTS}.pth no run can go on, and there is no other checkpoint"
    else:
        return None
    return InputError(
        f"output folder {folder}: {fault}: start again with --reuse-output, or resume from a copy"
    )


def _candidates(folder: Path, last: Path | None) -> Iterator[Path]:
    """The last checkpoint, then the others, newest first."""
    if last is not None:
        yield last
    # Of the best weights nobody says which iteration comes next.
    none = (last, folder / f"{BEST_WEIGHTS}.pth")
    others = [path for path in saved_checkpoints(folder) if path not in none]
    yield from sorted(others, key=_age)


def _number(path: Path) -> int | None:
    """The iteration in the name of a periodic checkpoint."""
    match = _PERIODIC.fullmatch(path.name)
    return match and int(match[1])


def _age(path: Path) -> float:
    """Grows with a checkpoint's age. A damaged one is new: it is named before an older is taken."""
    iteration = _number(path)
    if iteration is None:
        try:
            iteration = read_checkpoint(path).get("iteration")
        except InputError:
            iteration = float("inf")
    return -iteration if is_a(iteration, float) else float("inf")


def next_iteration(content: dict, path: Path, max_iter: int) -> int:
    """Return the iteration that a checkpoint's run goes on with.

    Raises:
        InputError: the file holds weights without a training state, or of a longer run.
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
    """Give a trainer the state that a checkpoint holds besides weights and iteration.

    Raises:
        InputError: the state belongs to another optimizer, or lacks the averaged weights.
    """
    if trainer.ema is not None and "ema_state" not in content:
        raise InputError(f"checkpoint {path} has no ema_state: resume with the run's own config")
    try:
        trainer.load_state_dict(content["trainer"])
        if trainer.ema is not None:
            trainer.ema.load_state_dict(content["ema_state"])
        trainer.window.load_state(content.get("metrics", []))
    except (KeyError, ValueError) as error:
        raise InputError(f"checkpoint {path} belongs to another model: {error}") from error
