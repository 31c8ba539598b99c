"""Stopping at the first loss that is not a number, with what is needed to find out why."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from detrex.checkpoint import save_checkpoint

from .failures import NonFiniteLoss
from .metrics import StepNumbers


class Run(Protocol):
    """What the guard needs of a trainer; states are saved in ``output_dir``."""

    iter: int
    network: nn.Module
    optimizer: torch.optim.Optimizer
    grad_scaler: torch.amp.GradScaler
    output_dir: str


class NanGuard:
    """Ends the run at the first loss or gradient norm that is not finite; weights never see it.

    At once, it reads one flag from the device in every step and so waits for the step. Deferred,
    the optimizer itself skips the step on the device (``found_inf``, as under a ``GradScaler``) and
    the flag is read when the next step is about to change the weights: its copy is done by then.
    What is written in between asks :meth:`settle` first.

    Args:
        trainer: whose steps these are.
        deferred: needs an optimizer with ``fused=True``.
    """

    def __init__(self, trainer: Run, deferred: bool) -> None:
        self._trainer, self.deferred = trainer, deferred
        self._last: _Watched | None = None

    def watch(self, numbers: StepNumbers, batches: Sequence[list[dict]]) -> None:
        """Look at a step's numbers when its gradients are there and the optimizer has not run.

        Args:
            numbers: with loss scaling an infinite norm is normal, and the scaler skips the step.
            batches: the input of each forward pass.

        Raises:
            NonFiniteLoss: naming the loss, the iteration and the image files. The model, the inputs
                and the losses are in ``nan_state.pth`` in the output folder.
        """
        self.settle()
        scaled = self._trainer.grad_scaler.is_enabled()
        bad = ~numbers.values[: -1 if scaled else None].isfinite().all()
        self._last = _Watched(self._trainer.iter, numbers, batches, bad)
        if not self.deferred:
            self.settle()
        elif not scaled:
            self._trainer.optimizer.grad_scale = None
            self._trainer.optimizer.found_inf = bad.float()

    def settle(self) -> None:
        """Make sure of the last step.

        Raises:
            NonFiniteLoss: as :meth:`watch`.
        """
        last, self._last = self._last, None
        if last is None or not last.is_bad():
            return
        scaled = self._trainer.grad_scaler.is_enabled()
        for number, losses in enumerate(last.by_pass()):
            for name, value in losses.items():
                if not math.isfinite(value) and not (scaled and name == "grad_norm"):
                    raise self._failure(name, losses, last, number)

    def _failure(
        self, name: str, losses: dict[str, float], step: _Watched, number: int
    ) -> NonFiniteLoss:
        batch, iteration = step.batches[number], step.iteration
        if name == "grad_norm" and comm.get_world_size() > 1:
            time.sleep(2)  # gradients are shared: the process whose loss it was speaks first
        path = _save_state(self._trainer, losses, iteration, step.batches[: number + 1])
        files = ", ".join(str(sample.get("file_name")) for sample in batch)
        return NonFiniteLoss(
            f"{name} is {losses[name]} in iteration {iteration}; images: {files}; "
            f"to find out more: python tools/replay.py {path}"
        )


class _Watched:
    """A step whose flag is on its way to the host."""

    def __init__(
        self, iteration: int, numbers: StepNumbers, batches: Sequence[list[dict]], bad: Tensor
    ) -> None:
        self.iteration, self.numbers, self.batches = iteration, numbers, batches
        self._flag = torch.empty((), dtype=torch.bool, pin_memory=bad.is_cuda)
        self._flag.copy_(bad, non_blocking=True)
        self._arrived = torch.cuda.Event() if bad.is_cuda else None
        if self._arrived:
            self._arrived.record()

    def is_bad(self) -> bool:
        if self._arrived:
            self._arrived.synchronize()
        return bool(self._flag.numpy())  # of host memory: no operator, no wait for the device

    def by_pass(self) -> list[dict[str, float]]:
        return self.numbers.by_pass(self.numbers.values.tolist())


def _save_state(
    trainer: Run, losses: dict[str, float], iteration: int, batches: Sequence[list[dict]]
) -> Path:
    rank = comm.get_rank()
    name = f"nan_state.rank{rank}.pth" if rank else "nan_state.pth"
    path = Path(trainer.output_dir) / name
    state = {
        "model": trainer.network.state_dict(),
        "iteration": iteration,
        "rank": rank,
        "losses": losses,
        # Of the step's earlier passes too: they have used up random numbers.
        "earlier_inputs": [[_plain_sample(sample) for sample in batch] for batch in batches[:-1]],
        "inputs": [_plain_sample(sample) for sample in batches[-1]],
    }
    save_checkpoint(state, path)
    return path


def _plain_sample(sample: dict) -> dict:
    """Keep what loads again without unpickling classes: instances become boxes and labels."""
    plain = {k: v for k, v in sample.items() if isinstance(v, Tensor | str | int | float)}
    instances = sample.get("instances")
    if instances is not None:
        plain |= {"gt_boxes": instances.gt_boxes.tensor, "gt_classes": instances.gt_classes}
    return plain
