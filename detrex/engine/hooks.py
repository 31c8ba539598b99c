"""Hooks that detectron2 does not have."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from detrex.utils.files import atomic_write

from .checkpoints import BEST_WEIGHTS, FINAL, LATEST, TrainingCheckpoints
from .preemption import Preemption
from .run_folder import BEST, read_best

logger = logging.getLogger(__name__)


class MatcherIteration(HookBase):
    """Tell every matcher with a scheduled cost which iteration it is.

    It is derived from the trainer's iteration before each step, so resuming needs no extra state.
    """

    def before_train(self) -> None:
        """Find the matchers."""
        self._matchers = scheduled_matchers(self.trainer.model)

    def before_step(self) -> None:
        """Set their ``iter``."""
        for matcher in self._matchers:
            matcher.iter = self.trainer.iter


def scheduled_matchers(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose cost depends on their ``iter``."""
    return [m for m in model.modules() if hasattr(m, "iter") and hasattr(m, "matcher_change_iter")]


class LRScheduler(hooks.LRScheduler):
    """The learning rates follow the config's, also where a checkpoint has others."""

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where the schedule was."""
        self.scheduler.last_epoch = state_dict["last_epoch"]
        for group, rate in zip(
            self.scheduler.optimizer.param_groups, self.scheduler.get_lr(), strict=True
        ):
            group["lr"] = rate


class Evaluation(hooks.EvalHook):
    """Evaluate after every ``period`` iterations and at the end.

    It comes before the next step, when the last one is saved: a run that is ended while it
    evaluates starts with that evaluation when it is resumed, and none is missed.
    """

    def before_step(self) -> None:
        """Evaluate if it is time to."""
        if evaluation_due(self.trainer.iter, self._period):
            self._do_eval()

    def after_step(self) -> None:
        """Nothing: see ``before_step``."""


def evaluation_due(done: int, period: int) -> bool:
    """Whether there is an evaluation once this many iterations are done, the end aside."""
    return period > 0 and done > 0 and done % period == 0


class AfterFirstStep(HookBase):
    """Call a function once this start has made a step: it did not fail at once.

    Args:
        function: without arguments.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function

    def after_step(self) -> None:
        """Call it after the first step."""
        if self.trainer.iter == self.trainer.start_iter:
            self._function()


class Writers(HookBase):
    """Write the numbers every ``period`` iterations, after evaluations, and when the run ends.

    Args:
        make: returns the writers; called when training starts.
        period: iterations.
        eval_period: iterations.
        preemption: says when the run ends early.
    """

    def __init__(
        self,
        make: Callable[[], list[EventWriter]],
        period: int,
        eval_period: int,
        preemption: Preemption,
    ) -> None:
        self._make, self._period, self._eval_period = make, period, eval_period
        self._preemption = preemption

    def before_train(self) -> None:
        """Open the writers."""
        self._writers = self._make()

    def after_step(self) -> None:
        """Write if it is time to."""
        done = self.trainer.iter + 1
        # An evaluation is written at once, before a checkpoint says that it is done.
        evaluated = evaluation_due(self.trainer.iter, self._eval_period)
        if done % self._period == 0 or done == self.trainer.max_iter or evaluated:
            self._write()
        if self._preemption.stopping:
            self._close()

    def after_train(self) -> None:
        """Write what hooks have found at the end."""
        self._write()
        self._close()

    def _write(self) -> None:
        for writer in self._writers:
            writer.write()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()


class PeriodicCheckpoint(HookBase):
    """Save every ``period`` iterations as ``model_0004999.pth``, and at the end as ``model_final``.

    Before an evaluation and when the run is asked to stop, ``model_latest`` is saved. Belongs
    behind all hooks that do something after a step: what is saved is what is done.

    Args:
        checkpoints: saves and deletes.
        period: iterations; 0 saves at the end only.
        eval_period: iterations between evaluations.
        preemption: says when the run ends early.
    """

    def __init__(
        self,
        checkpoints: TrainingCheckpoints,
        period: int,
        eval_period: int,
        preemption: Preemption,
    ) -> None:
        self._checkpoints, self._period, self._eval_period = checkpoints, period, eval_period
        self._preemption = preemption

    def after_step(self) -> None:
        """Save if it is time to; end the run if it is asked to."""
        name = self._name(self.trainer.iter + 1)
        if self._preemption.stopping:  # said before the disk turns out to be full
            logger.warning("asked to stop by a signal: saving %s.pth", name)
        if name is not None:
            self._checkpoints.save(name)
            self._checkpoints.prune()
            comm.synchronize()
            self._preemption.saved()
        if self._preemption.stopping:
            self._preemption.leave()

    def _name(self, done: int) -> str | None:
        if done == self.trainer.max_iter:
            return FINAL
        if self._period > 0 and done % self._period == 0:
            return f"model_{self.trainer.iter:07d}"
        if evaluation_due(done, self._eval_period) or self._preemption.stopping:
            return LATEST
        return None


class BestCheckpoint(HookBase):
    """Keep the weights with the highest score as ``model_best.pth``, its score in ``best.json``.

    Belongs behind the hook that evaluates.

    Args:
        checkpoints: saves.
        metric: name of the score, e.g. "bbox/AP".
    """

    def __init__(self, checkpoints: TrainingCheckpoints, metric: str) -> None:
        self._checkpoints, self._metric = checkpoints, metric
        self._val = checkpoints.metadata.get("val")  # fingerprint of the validation data
        self._seen = -1

    def before_train(self) -> None:
        """Continue from the best score of the run that is resumed, if it is of the same data."""
        saved = read_best(self._checkpoints.folder) if self.trainer.start_iter > 0 else {}
        comparable = saved and saved.get("val", self._val) == self._val
        self._best = saved["value"] if comparable else float("-inf")

    def before_step(self) -> None:
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
            self._checkpoints.save(BEST_WEIGHTS, resumable=False)
            best = {"metric": self._metric, "value": value, "iteration": iteration}
            with atomic_write(self._checkpoints.folder / BEST) as stream:
                json.dump({**best, "val": self._val}, stream)
