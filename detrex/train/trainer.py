"""The training loop, which says what happens when, and its step: mixed precision, accumulation,
clipping, averaging, and a guard against NaN."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detrex.config.lengths import is_due, scheduled_modules
from detrex.modeling.ema import ModelEma
from detrex.utils.device import foreach, pins_memory, seed_device
from detrex.utils.events import BoundedStorage
from detrex.utils.shares import whole

from .data import endless
from .folder import FINAL, LATEST
from .metrics import MetricsWindow, StepNumbers
from .nan_guard import NanGuard
from .optim import LearningRates, load_optimizer
from .preemption import Preemption

logger = logging.getLogger(__name__)


@dataclass
class StepOptions:
    """How an optimizer step is made, and how often the run logs, saves and evaluates.

    Attributes:
        amp_dtype: type of the autocast forward pass; None: full precision. float16 scales the loss.
        accumulation_steps: forward and backward passes per step, whose mean gradient is used.
        clip: arguments of ``clip_grad_norm_`` (``max_norm``, ``norm_type``); None: no clipping.
        seed: random numbers that the model draws depend on (seed, iteration, rank) only.
        log_period: iterations over which the reported losses are averaged.
        checkpoint_period: iterations; 0 saves at the end only.
        eval_period: iterations; 0 evaluates at the end only.
        output_dir: folder for the state of a step with a loss that is not finite.
    """

    amp_dtype: torch.dtype | None = None
    accumulation_steps: int = 1
    clip: dict | None = field(default_factory=lambda: {"max_norm": 0.1, "norm_type": 2})
    seed: int = 0
    log_period: int = 20
    checkpoint_period: int = 0
    eval_period: int = 0
    output_dir: str = "."


class Trainer(TrainerBase):
    """Trains a model that maps ``list[dict]`` to a dict of weighted losses.

    Hooks are detectron2's. ``iter`` counts optimizer steps. The state (``state_dict``) is the
    iteration, the optimizer, its learning rates, the loss scaler and the hooks' states.

    Args:
        model: on its device; it may be wrapped or sharded for distributed training.
        loader: yields batches; it is started again when it ends.
        optimizer: of the model's parameters.
        options: how a step is made.
        ema: moving averages of the weights, updated after every step.

    Attributes:
        network: the model without the wrapper of distributed training.
        learning_rates: set after every step for the next one; None: the rates stay.
        save: writes a checkpoint of this name; None: nothing is saved.
        evaluate: returns a trainer's scores by name; None: nothing is evaluated.
        keep_best: saves the weights if the newest score is the best; None: it does not.
        is_over: whether to end the run after an evaluation; None: it never does.
        writers: open writers of losses and scores; only the main process has any.
        preemption: listens for signals that end the run early.
        first_step_made: called after the first step of this start and its checkpoint, if due.
    """

    learning_rates: LearningRates | None = None
    save: Callable[[str], None] | None = None
    evaluate: Callable[[Trainer], dict[str, float]] | None = None
    keep_best: Callable[[EventStorage], None] | None = None
    is_over: Callable[[], bool] | None = None
    writers: Iterable[EventWriter] = ()
    first_step_made: Callable[[], None] | None = None

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        options: StepOptions,
        ema: ModelEma | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loader, self.optimizer = model.train(), loader, optimizer
        self.network = model.module if isinstance(model, DistributedDataParallel) else model
        self.options, self.ema = options, ema
        self.device = next(model.parameters()).device
        scaled = options.amp_dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        fused = all(group.get("fused") for group in optimizer.param_groups)
        self.guard = NanGuard(self, deferred=pins_memory(self.device.type) and fused)
        self.window, self.preemption = MetricsWindow(), Preemption()

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter`` to ``max_iter - 1``.

        Hooks come before logging and saving, so that both include what they do. Saving comes before
        evaluating: a run that ends during an evaluation repeats it when it is resumed. Unlike in
        detectron2, ``after_train`` is not called when the run fails.

        Raises:
            NonFiniteLoss: a loss became NaN or infinite.
            SystemExit: a signal has ended the run; the status is ``PREEMPTED``.
        """
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self._batches, scheduled = endless(self.loader), scheduled_modules(self.model)
        with BoundedStorage(start_iter) as self.storage:
            self.before_train()
            self._evaluate_if_due()
            self._keep_best()
            while self.iter < max_iter and not self._ends_early():
                for module in scheduled:
                    module.iter = self.iter
                self.preemption.begin_step()
                self.before_step()
                self.run_step()
                self._schedule()
                self.after_step()
                self.preemption.end_step()
                self._log_if_due()
                self._save_if_due()
                if self.preemption.stopping:
                    self.preemption.leave(self.iter)
                if self.first_step_made and self.iter == start_iter:
                    self.first_step_made()
                self.iter += 1
                self._evaluate_if_due()
                self._keep_best()
            self.after_train()
            for writer in self.writers:
                writer.write()
                writer.close()

    def run_step(self) -> None:
        """Make one optimizer step."""
        assert self.model.training, "a hook left the model in evaluation mode"
        seed_step(self.options.seed, self.iter, comm.get_rank(), self.device.type)
        start = time.perf_counter()
        batches = [next(self._batches) for _ in range(self.options.accumulation_steps)]
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        passes = [self._backward(batch, batch is batches[-1]) for batch in batches]
        self.after_backward()
        names, losses = zip(*passes, strict=True)
        numbers = StepNumbers(names, torch.cat([*losses, self._clip()[None]]))
        self.guard.watch(numbers, batches)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        done = self.iter + 1
        if self.ema is not None:
            self.ema.update(self.network, done)
        self.window.add(numbers, data_time)
        if done == self.max_iter or is_due(done, self.options.log_period):
            self.guard.settle()
            self.guard.warn_of_skipped_steps()
            self.window.flush(self.storage)

    def _backward(self, batch: list[dict], last: bool) -> tuple[list[str], Tensor]:
        """Return names and values (n,) of the losses, their total and the criterion's figures."""
        dtype = self.options.amp_dtype
        # Gradients travel between processes once per step: after its last pass.
        waits = self.model is not self.network and not last
        with self.model.no_sync() if waits else nullcontext():
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                losses = self.model(batch)
            values = torch.stack([loss.float().reshape(()) for loss in losses.values()])
            total = values.sum()
            self.grad_scaler.scale(total / self.options.accumulation_steps).backward()
        figures = getattr(getattr(self.network, "criterion", None), "figures", {})
        numbers = [values, total[None], *(figure.reshape(1) for figure in figures.values())]
        return [*losses, "total_loss", *figures], torch.cat(numbers).detach()

    def _clip(self) -> Tensor:
        """Clip the gradients; return their norm () before that."""
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.options.clip is None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            return whole(nn.utils.get_total_norm(gradients, foreach=foreach(self.device)))
        options = {"foreach": foreach(self.device), **self.options.clip}
        return whole(nn.utils.clip_grad_norm_(parameters, **options))

    def _schedule(self) -> None:
        """Record the step's learning rate, and set those of the next step."""
        if self.learning_rates is not None:
            self.storage.put_scalar("lr", self.learning_rates.main, smoothing_hint=False)
            self.learning_rates.step()

    def _log_if_due(self) -> None:
        done = self.iter + 1
        # An evaluation is written at once, before a checkpoint says that it is done.
        evaluated = is_due(self.iter, self.options.eval_period)
        due = evaluated or done == self.max_iter or is_due(done, self.options.log_period)
        for writer in self.writers:
            if due:
                writer.write()
            if self.preemption.stopping:
                writer.close()

    def _save_if_due(self) -> None:
        """Save every ``checkpoint_period`` iterations as ``model_0004999.pth`` and at the end as
        ``model_final.pth``; before an evaluation, and when stopping, as ``model_latest.pth``."""
        if self.save is None or (name := self._checkpoint_name()) is None:
            return
        if self.preemption.stopping:  # logged first: the disk may be full
            logger.warning("stopping at a signal: saving %s.pth", name)
        self.save(name)
        comm.synchronize()
        self.preemption.saved()

    def _checkpoint_name(self) -> str | None:
        done = self.iter + 1
        if done == self.max_iter:
            return FINAL
        if is_due(done, self.options.checkpoint_period):
            return f"model_{self.iter:07d}"
        if is_due(done, self.options.eval_period) or self.preemption.stopping:
            return LATEST
        return None

    def _evaluate_if_due(self) -> None:
        """Evaluate every ``eval_period`` iterations and at the end."""
        done = self.iter
        if self.evaluate and (done == self.max_iter or is_due(done, self.options.eval_period)):
            self.storage.iter = done  # scores are stored under the number of iterations done
            scores = comm.all_gather(self.evaluate(self))[0]  # waits for all processes
            self.storage.put_scalars(smoothing_hint=False, **scores)

    def _keep_best(self) -> None:
        if self.keep_best is not None:
            self.keep_best(self.storage)

    def _ends_early(self) -> bool:
        """After an evaluation, ask whether the run is over; if so save ``model_final.pth``."""
        if self.is_over is None or not is_due(self.iter, self.options.eval_period):
            return False
        if over := self.is_over():
            logger.info("the score has not improved: the run ends after %d iterations", self.iter)
            if self.save is not None:
                self.iter -= 1  # checkpoints name the last step
                self.save(FINAL)
                self.iter += 1
        return over

    def state_dict(self) -> dict:
        """Return what training continues from besides the weights."""
        state = super().state_dict()
        if self.learning_rates is not None:  # in the place of detectron2's hook
            hooks = {**state.get("hooks", {}), "LRScheduler": self.learning_rates.state_dict()}
            state["hooks"] = hooks
        return {
            **state,
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what ``state_dict`` returned; this trainer's hyperparameters stay.

        Raises:
            Exception: of many types, for a damaged state.
        """
        hooks = dict(state_dict.get("hooks", {}))
        if self.learning_rates is not None:
            self.learning_rates.load_state_dict(hooks.pop("LRScheduler"))
        super().load_state_dict({**state_dict, "hooks": hooks})
        name = type(self.optimizer).__name__
        if (saved := state_dict.get("optimizer_name", name)) != name:
            raise ValueError(f"its optimizer is {saved}, the config's is {name}")
        load_optimizer(self.optimizer, state_dict["optimizer"])
        if scaler := state_dict.get("grad_scaler"):
            if not all(isinstance(value, int | float) for value in scaler.values()):
                raise TypeError("grad_scaler is not of numbers")
            self.grad_scaler.load_state_dict(scaler)


def seed_step(seed: int, iteration: int, rank: int, kind: str = "cpu") -> None:
    """Seed the random numbers of one step on this type of device: a resumed run draws the same, and
    saves no state."""
    seed_device(kind, random.Random(f"{seed}/{iteration}/{rank}").getrandbits(63))
