"""The one training loop: mixed precision, accumulation, clipping, averaging, and a NaN guard."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detrex.modeling.ema import ModelEma
from detrex.utils.errors import InputError
from detrex.utils.events import BoundedStorage

from .metrics import MetricsWindow, StepNumbers
from .nan_guard import NanGuard
from .optim import load_optimizer


@dataclass
class StepOptions:
    """How one optimizer step is made.

    Attributes:
        amp_dtype: type of the autocast forward; None: full precision. float16 scales the loss.
        accumulation_steps: forward and backward passes per step; their mean gradient is used.
        clip: arguments of ``clip_grad_norm_`` (``max_norm``, ``norm_type``); None: no clipping.
        seed: what the model draws in an iteration depends on (seed, iteration, rank) only.
        log_period: iterations over which the reported losses are averaged.
        output_dir: where the state is saved if a loss is not finite.
    """

    amp_dtype: torch.dtype | None = None
    accumulation_steps: int = 1
    clip: dict | None = field(default_factory=lambda: {"max_norm": 0.1, "norm_type": 2})
    seed: int = 0
    log_period: int = 20
    output_dir: str = "."


class Trainer(TrainerBase):
    """Trains a model that maps ``list[dict]`` to a dict of weighted losses.

    Hooks are detectron2's. ``iter`` counts optimizer steps. Its state (``state_dict``) is the
    iteration, the optimizer, the loss scaler and the hooks' states.

    Args:
        model: possibly wrapped for distributed training; its device is where the step runs.
        loader: batches; an exhausted one is started again.
        optimizer: updates the model.
        options: how a step is made.
        ema: averages to update after every step.
    """

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
        self.options, self.output_dir, self.ema = options, options.output_dir, ema
        self.device = next(model.parameters()).device
        scaled = options.amp_dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        fused = all(group.get("fused") for group in optimizer.param_groups)
        self.guard = NanGuard(self, deferred=self.device.type == "cuda" and fused)
        self.window = MetricsWindow()

    @property
    def network(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        wrapped = isinstance(self.model, DistributedDataParallel)
        return self.model.module if wrapped else self.model

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter`` to ``max_iter - 1``, then the hooks' ``after_train``.

        Unlike detectron2's, hooks do not finish a run that failed (no evaluation of what is left).

        Raises:
            NonFiniteLoss: a loss became NaN or infinite.
        """
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self._batches = _endless(self.loader)
        with BoundedStorage(start_iter) as self.storage:
            self.before_train()
            for self.iter in range(start_iter, max_iter):
                self.before_step()
                self.run_step()
                self.after_step()
            self.iter = max_iter
            self.after_train()

    def run_step(self) -> None:
        """Make one optimizer step."""
        assert self.model.training, "a hook left the model in evaluation mode"
        seed_step(self.options.seed, self.iter, comm.get_rank())
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
        if self.ema is not None:
            self.ema.update(self.network, self.iter + 1)
        self._report(numbers, data_time)

    def _backward(self, batch: list[dict], last: bool) -> tuple[list[str], Tensor]:
        """Names and values (n,) of the losses, the total last."""
        dtype = self.options.amp_dtype
        with self._synchronised(last):
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                losses = self.model(batch)
            values = torch.stack([loss.float().reshape(()) for loss in losses.values()])
            total = values.sum()
            self.grad_scaler.scale(total / self.options.accumulation_steps).backward()
        return [*losses, "total_loss"], torch.cat([values, total[None]]).detach()

    def _synchronised(self, last: bool) -> AbstractContextManager:
        """Gradients travel between processes once per step."""
        wrapped = isinstance(self.model, DistributedDataParallel)
        return self.model.no_sync() if wrapped and not last else nullcontext()

    def _clip(self) -> Tensor:
        """The gradient's norm; afterwards the gradients are clipped."""
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.options.clip is None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            return nn.utils.get_total_norm(gradients, foreach=True)
        return nn.utils.clip_grad_norm_(parameters, **{"foreach": True, **self.options.clip})

    def _report(self, numbers: StepNumbers, data_time: float) -> None:
        self.window.add(numbers, data_time=data_time)
        if (self.iter + 1) % self.options.log_period == 0 or self.iter + 1 == self.max_iter:
            self.guard.settle()
            self.guard.warn_of_skipped_steps()
            self.window.flush(self.storage)

    def state_dict(self) -> dict:
        """Return everything but the weights that training continues from."""
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what ``state_dict`` returned; hyperparameters stay those of this trainer.

        Raises:
            Exception: of many types, for a state that is none.
        """
        super().load_state_dict(state_dict)
        name = type(self.optimizer).__name__
        if (saved := state_dict.get("optimizer_name", name)) != name:
            raise ValueError(f"its optimizer is {saved}, the config's is {name}")
        load_optimizer(self.optimizer, state_dict["optimizer"])
        if scaler := state_dict.get("grad_scaler"):
            if not all(isinstance(value, int | float) for value in scaler.values()):
                raise TypeError("grad_scaler is not of numbers")
            self.grad_scaler.load_state_dict(scaler)


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Make what a model draws a function of the step: nothing to save, and equal after a resume."""
    value = random.Random(f"{seed}/{iteration}/{rank}").getrandbits(63)
    # Not torch.manual_seed: in a process without CUDA it would note the call for later, each time.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)


def _endless(loader: Iterable[list[dict]]) -> Iterator[list[dict]]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise InputError("the training loader gives no batch")
