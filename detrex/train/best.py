"""The weights with the best score of a run."""

from __future__ import annotations

import json
import logging
import math

from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.config.lengths import is_due
from detrex.evaluation.figures import LOWER_IS_BETTER
from detrex.utils.files import atomic_write

from .checkpoints import TrainingCheckpoints
from .folder import BEST, BEST_WEIGHTS, read_best, read_metrics
from .optim import load_optimizer
from .trained_on import on_all_processes

logger = logging.getLogger(__name__)


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

    Raises:
        InputError: ``best.json`` is damaged.
    """

    def __init__(
        self,
        checkpoints: TrainingCheckpoints,
        metric: str,
        resumed: bool,
        reload: int | None = None,
    ) -> None:
        self._checkpoints, self._metric, self._reload = checkpoints, metric, reload
        self._val = checkpoints.metadata.get("val")  # fingerprint of the validation data
        self._sign = -1 if LOWER_IS_BETTER.get(metric.removeprefix("ema_")) else 1
        saved = read_best(checkpoints.folder) if resumed else {}
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
        if not comm.is_main_process() or iteration <= self._seen:
            return
        self._seen = iteration
        self._scores[iteration] = value
        if self._sign * value > self._sign * self._best:
            self._best = value
            self._checkpoints.save(BEST_WEIGHTS, resumable=False)
            best = {"metric": self._metric, "value": value, "iteration": iteration}
            with atomic_write(self._checkpoints.folder / BEST) as stream:
                json.dump({**best, "val": self._val}, stream)

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
