"""The weights with the best score of a run, and its end when the score improves no more."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.config.lengths import is_due
from detrex.evaluation.coco import RESULTS
from detrex.evaluation.figures import lower_is_better, unknown_figure
from detrex.evaluation.origin import ORIGIN
from detrex.utils.files import atomic_write

from .checkpoints import TrainingCheckpoints
from .folder import BEST, BEST_FILES, BEST_WEIGHTS, read_best, read_metrics
from .optim import load_optimizer
from .trained_on import on_all_processes

logger = logging.getLogger(__name__)
EVALUATION_FILES = (RESULTS, ORIGIN, "alignment.json", "calibration.json")


class BestCheckpoint:
    """Keeps the weights with the best score as ``model_best.pth``, the score in ``best.json``;
    the run may go on from them.

    After iteration ``reload`` it does so again whenever an evaluation is no better than all before
    it or, once this has happened, than all since then (the last stage of DEIM's training).

    Args:
        checkpoints: saves the weights.
        metric: name of the score, e.g. "bbox/AP", or "ema_bbox/AP" of the averaged weights.
        resumed: start from the folder's best score, if it is of this metric and validation data.
        reload: iteration before which the best weights so far are loaded first; None: never.
        evaluated: folder of the evaluations' files, of which the best one's are copied to
            ``best/``; None: there are none.

    Raises:
        InputError: ``best.json`` is damaged.
    """

    def __init__(
        self,
        checkpoints: TrainingCheckpoints,
        metric: str,
        resumed: bool,
        reload: int | None = None,
        evaluated: Path | None = None,
    ) -> None:
        self._checkpoints, self._metric, self._reload = checkpoints, metric, reload
        self._evaluated = evaluated
        self._val = checkpoints.metadata.get("val")  # fingerprint of the validation data
        self._sign = -1 if lower_is_better(metric) else 1
        saved = on_all_processes(lambda: read_best(checkpoints.folder) if resumed else {})
        saved = comm.all_gather(saved)[0]
        now = {"metric": metric, "val": self._val}
        comparable = saved and all(saved.get(key, value) == value for key, value in now.items())
        self._best = saved["value"] if comparable else -self._sign * float("inf")
        self._seen = -1
        lines = read_metrics(checkpoints.folder) if comparable else []
        self._scores = {line["iteration"]: line[metric] for line in lines if metric in line}

    def keep(self, storage: EventStorage) -> None:
        """Save the weights if the storage has a new score and it is the best, then load the best
        ones if this is the time to; every process must call this before every iteration."""
        self._save(storage)
        if self._checkpoints.trainer.iter == self._reload or self._falls_back():
            self._load()

    def _falls_back(self) -> bool:
        trainer = self._checkpoints.trainer
        if self._reload is None or not self._reload < trainer.iter < trainer.max_iter:
            return False
        if not trainer.evaluate or not is_due(trainer.iter, trainer.options.eval_period):
            return False
        return comm.all_gather(self._is_no_better())[0]  # the first process has the scores

    def _is_no_better(self) -> bool:
        best, is_worse = -math.inf, False
        for iteration, value in sorted(self._scores.items()):
            if iteration <= self._checkpoints.trainer.iter:
                is_worse = iteration > self._reload and not self._sign * value > best
                best = -math.inf if is_worse else max(best, self._sign * value)
        return is_worse

    def _save(self, storage: EventStorage) -> None:
        value, iteration = storage.latest().get(self._metric, (float("nan"), -1))
        if iteration <= self._seen:
            return
        self._seen = iteration
        self._scores[iteration] = value
        if self._sign * value > self._sign * self._best:
            self._best = value
            self._checkpoints.save(BEST_WEIGHTS, resumable=False)
            best = {"metric": self._metric, "value": value, "iteration": iteration}
            if not comm.is_main_process():
                return
            with atomic_write(self._checkpoints.folder / BEST) as stream:
                json.dump({**best, "val": self._val}, stream)
            self._copy_files()

    def _copy_files(self) -> None:
        for name in EVALUATION_FILES if self._evaluated else ():
            source, target = self._evaluated / name, self._checkpoints.folder / BEST_FILES / name
            if source.is_file():
                with source.open("rb") as content, atomic_write(target, "wb") as stream:
                    shutil.copyfileobj(content, stream)

    def _load(self) -> None:
        """Load weights, averages and the optimizer's state; iteration and learning rates stay."""
        trainer, path = self._checkpoints.trainer, self._checkpoints.folder / f"{BEST_WEIGHTS}.pth"
        trainer.guard.settle()
        if not comm.all_gather(path.is_file())[0]:
            logger.warning("train.reload_best: no evaluation yet, the run goes on as it is")
            return
        content = on_all_processes(lambda: read_checkpoint(path))
        load_weights(trainer.network, path, strict=True, content=content)
        if trainer.ema is not None:
            trainer.ema.load_state_dict(content["ema_state"])
        load_optimizer(trainer.optimizer, content["trainer"]["optimizer"])
        logger.info("going on from %s, of iteration %d", path, content["iteration"])


class EarlyStopping(HookBase):
    """Says after an evaluation whether a logged number has not improved for too long.

    It is a hook so that its state is saved with every checkpoint: a resumed run ends where the
    whole one does.

    Args:
        metric: the number's name, e.g. "bbox/AP", or "total_loss".
        patience: iterations after the best value until the run ends.
        min_gain: what a value must be better by to be the best one.
    """

    def __init__(self, metric: str, patience: int, min_gain: float) -> None:
        self._metric, self._patience, self._min_gain = metric, patience, min_gain
        self._sign = -1 if lower_is_better(metric) else 1
        self._best, self._best_iter = -float("inf"), 0  # the higher the better
        self._value: float | None = None  # of the checkpoint that the run goes on from

    def is_over(self) -> bool:
        """Whether the run should end; every process must call this after every evaluation.

        Raises:
            InputError: there is no such number.
        """
        return comm.all_gather(comm.is_main_process() and self._is_over())[0]

    def _is_over(self) -> bool:
        value = self._latest()
        if value is None:
            names = [
                name for name in self.trainer.storage.latest() if "/" in name or "loss" in name
            ]
            raise unknown_figure(self._metric, names, "train.early_stopping.metric")
        if self._sign * value > self._best + self._min_gain:
            self._best, self._best_iter = self._sign * value, self.trainer.iter
        return self.trainer.iter - self._best_iter >= self._patience

    def _latest(self) -> float | None:
        return self.trainer.storage.latest().get(self._metric, (self._value,))[0]

    def state_dict(self) -> dict:
        """The best value so far, and the newest, which the log of a resumed run lacks."""
        best = {"metric": self._metric, "best": self._best, "best_iter": self._best_iter}
        return {**best, "value": self._latest()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from ``state``, unless it is of another number."""
        if state["metric"] == self._metric:
            self._best, self._best_iter = state["best"], state["best_iter"]
            self._value = state["value"]
