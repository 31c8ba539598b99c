"""A run's checkpoints: what they hold, how many are kept, and continuing from them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from detectron2.utils import comm

from detrex.checkpoint import save_checkpoint
from detrex.checkpoint.files import tag_last_checkpoint
from detrex.utils.errors import InputError

from .trainer import Trainer

logger = logging.getLogger(__name__)
_PERIODIC = re.compile(r"model_\d{7}\.pth")


class TrainingCheckpoints:
    """Saves a trainer's state; only the main process writes.

    Args:
        trainer: what is saved.
        folder: where.
        metadata: plain description of model and data: format, classes, category_ids, config.
        max_to_keep: periodic checkpoints beyond this many are deleted, oldest first.
    """

    def __init__(self, trainer: Trainer, folder: str, metadata: dict, max_to_keep: int):
        self.trainer, self.folder = trainer, Path(folder)
        self.metadata, self.max_to_keep = metadata, max_to_keep

    def save(self, name: str, resumable: bool = True) -> None:
        """Write ``<name>.pth``; a resumable one becomes the folder's last checkpoint.

        Raises:
            NonFiniteLoss: the last step had one; nothing is written.
        """
        self.trainer.guard.settle()
        if not comm.is_main_process():
            return
        data = {
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
        """Delete the oldest periodic checkpoints beyond ``max_to_keep``."""
        if comm.is_main_process():
            files = sorted(p for p in self.folder.iterdir() if _PERIODIC.fullmatch(p.name))
            for path in files[: -self.max_to_keep]:
                path.unlink()


def restore(trainer: Trainer, content: dict, path: Path) -> int:
    """Continue from a checkpoint's content, its weights aside; return the next iteration.

    Raises:
        InputError: the file has no training state, or it belongs to another optimizer.
    """
    if "trainer" not in content or "iteration" not in content:
        raise InputError(f"checkpoint {path} has no training state to resume from")
    if trainer.ema is not None and "ema_state" not in content:
        raise InputError(f"checkpoint {path} has no ema_state: resume with the run's own config")
    try:
        trainer.load_state_dict(content["trainer"])
        if trainer.ema is not None:
            trainer.ema.load_state_dict(content["ema_state"])
    except (KeyError, ValueError) as error:
        raise InputError(f"checkpoint {path} belongs to another model: {error}") from error
    return content["iteration"] + 1
