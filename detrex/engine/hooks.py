"""Hooks that detectron2 does not have."""

from __future__ import annotations

import json
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from detrex.utils.files import atomic_write

from .checkpoints import TrainingCheckpoints


class MatcherIteration(HookBase):
    """Tell every matcher with a scheduled cost which iteration it is.

    It is derived from the trainer's iteration before each step, so resuming needs no extra state.
    """

    def before_train(self) -> None:
        """Find the matchers."""
        modules = self.trainer.model.modules()
        self._matchers = [
            m for m in modules if hasattr(m, "iter") and hasattr(m, "matcher_change_iter")
        ]

    def before_step(self) -> None:
        """Set their ``iter``."""
        for matcher in self._matchers:
            matcher.iter = self.trainer.iter


class PeriodicCheckpoint(HookBase):
    """Save every ``period`` iterations as ``model_0004999.pth``, and at the end as ``model_final``.

    Args:
        checkpoints: saves and deletes.
        period: iterations; 0 saves at the end only.
    """

    def __init__(self, checkpoints: TrainingCheckpoints, period: int):
        self._checkpoints, self._period = checkpoints, period

    def after_step(self) -> None:
        """Save if it is time to."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._checkpoints.save("model_final")
        elif self._period > 0 and done % self._period == 0:
            self._checkpoints.save(f"model_{self.trainer.iter:07d}")
            self._checkpoints.prune()


class BestCheckpoint(HookBase):
    """Keep the weights with the highest score as ``model_best.pth``, its score in ``best.json``.

    Belongs behind the hook that evaluates.

    Args:
        checkpoints: saves.
        metric: name of the score, e.g. "bbox/AP".
    """

    def __init__(self, checkpoints: TrainingCheckpoints, metric: str):
        self._checkpoints, self._metric = checkpoints, metric
        self._file = Path(checkpoints.folder) / "best.json"
        self._seen = -1

    def before_train(self) -> None:
        """Continue from the best score of the run that is resumed."""
        resumed = self.trainer.start_iter > 0 and self._file.is_file()
        self._best = json.loads(self._file.read_text())["value"] if resumed else float("-inf")

    def after_step(self) -> None:
        """Save if the latest evaluation is the best one."""
        self._check()

    def after_train(self) -> None:
        """Look at the evaluation at the end of the run."""
        self._check()

    def _check(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (float("nan"), -1))
        if not comm.is_main_process() or iteration <= self._seen:
            return
        self._seen = iteration
        if value > self._best:
            self._best = value
            self._checkpoints.save("model_best", resumable=False)
            with atomic_write(self._file) as stream:
                json.dump({"metric": self._metric, "value": value, "iteration": iteration}, stream)
