"""Stopping at the first loss that is not a number, with what is needed to find out why; and where
loss scaling skips every step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from detrex.checkpoint import save_checkpoint
from detrex.utils.device import HostCopy

from .failures import NonFiniteLoss, reason_of
from .metrics import StepNumbers

logger = logging.getLogger(__name__)
# Loss scaling begins at 65,536 and halves at each skipped step; a few are usual at the start. Below
# the least scale float16 has no digits left for gradients.
SKIPPED, LEAST_SCALE = 20, 1e-4


class Run(Protocol):
    """What the guard needs of a trainer; states are saved in ``output_dir``."""

    iter: int
    network: nn.Module
    optimizer: torch.optim.Optimizer
    grad_scaler: torch.amp.GradScaler
    output_dir: str


class NanGuard:
    """Ends the run at the first loss or gradient norm that is not finite; weights never see it.

    With loss scaling a norm that is not finite is normal, and the scaler skips the step: the run
    ends when it has skipped ``SKIPPED`` in a row, or one at a scale below ``LEAST_SCALE``.

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
        self._skipped = 0  # steps in a row

    def watch(self, numbers: StepNumbers, batches: Sequence[list[dict]]) -> None:
        """Look at a step's numbers when its gradients are there and the optimizer has not run.

        Args:
            numbers: of the step.
            batches: the input of each forward pass.

        Raises:
            NonFiniteLoss: naming the loss, the iteration and the image files. The model, the inputs
                and the losses are in ``nan_state.pth`` in the output folder.
        """
        self.settle()
        scaled = self._trainer.grad_scaler.is_enabled()
        finite = numbers.values.isfinite()
        bad = torch.stack([~finite[: -1 if scaled else None].all(), ~finite[-1]])
        self._last = _Watched(self._trainer.iter, numbers, batches, bad)
        if not self.deferred:
            self.settle()
        elif not scaled:
            self._trainer.optimizer.grad_scale = None
            self._trainer.optimizer.found_inf = bad[0].float()

    def settle(self) -> None:
        """Make sure of the last step.

        Raises:
            NonFiniteLoss: as :meth:`watch`.
        """
        last, self._last = self._last, None
        if last is None:
            return
        bad, bad_norm = last.flags()
        scaled = self._trainer.grad_scaler.is_enabled()
        self._skipped = self._skipped + 1 if scaled and bad_norm else 0
        in_vain = self._skipped and self._in_vain()
        if not (bad or in_vain):
            return
        for number, losses in enumerate(last.by_pass()):
            for name, value in losses.items():
                skipped = scaled and name == "grad_norm" and not in_vain
                if not math.isfinite(value) and not skipped:
                    raise self._failure(name, losses, last, number)

    def warn_of_skipped_steps(self) -> None:
        """Say in the log if the last steps changed nothing."""
        if self._skipped:
            logger.warning("the last %s", self._skipping())

    def _in_vain(self) -> bool:
        few_digits = self._trainer.grad_scaler.get_scale() < LEAST_SCALE
        return self._skipped >= SKIPPED or few_digits

    def _skipping(self) -> str:
        scale = self._trainer.grad_scaler.get_scale()
        return (
            f"{self._skipped} steps were skipped: their gradients overflow float16 or are NaN "
            f"(loss scale {scale:.3g}); train.amp.dtype=bfloat16 needs no scale"
        )

    def _failure(
        self, name: str, losses: dict[str, float], step: _Watched, number: int
    ) -> NonFiniteLoss:
        batch, iteration = step.batches[number], step.iteration
        if name == "grad_norm" and comm.get_world_size() > 1:
            time.sleep(2)  # gradients are shared: the process whose loss it was speaks first
        path = _state_file(self._trainer)
        more = f"to find out more: python tools/replay.py {path}"
        try:
            _save_state(self._trainer, path, losses, iteration, step.batches[: number + 1])
        except Exception as error:  # whatever it is, the loss is the reason of the end
            more = f"{path} could not be written: {reason_of(error)}"
        files = ", ".join(str(sample.get("file_name")) for sample in batch)
        if self._skipped:
            more = f"the last {self._skipping()}; {more}"
        return NonFiniteLoss(
            f"{name} is {losses[name]} in iteration {iteration}; images: {files}; {more}"
        )


class _Watched:
    """A step whose flags (2,), a bad loss and a bad norm, are on their way to the host."""

    def __init__(
        self, iteration: int, numbers: StepNumbers, batches: Sequence[list[dict]], bad: Tensor
    ) -> None:
        self.iteration, self.numbers, self.batches = iteration, numbers, batches
        self._flags = HostCopy(bad)

    def flags(self) -> list[bool]:
        return self._flags.wait().numpy().tolist()

    def by_pass(self) -> list[dict[str, float]]:
        return self.numbers.by_pass(self.numbers.values.tolist())


def _state_file(trainer: Run) -> Path:
    rank = comm.get_rank()
    return Path(trainer.output_dir) / (f"nan_state.rank{rank}.pth" if rank else "nan_state.pth")


def _save_state(
    trainer: Run,
    path: Path,
    losses: dict[str, float],
    iteration: int,
    batches: Sequence[list[dict]],
) -> None:
    state = {
        "model": trainer.network.state_dict(),
        "iteration": iteration,
        "rank": comm.get_rank(),
        "losses": losses,
        # Of the step's earlier passes too: they have used up random numbers.
        "earlier_inputs": [[_plain_sample(sample) for sample in batch] for batch in batches[:-1]],
        "inputs": [_plain_sample(sample) for sample in batches[-1]],
    }
    save_checkpoint(state, path)


def _plain_sample(sample: dict) -> dict:
    """Keep what loads again without unpickling classes: instances become boxes and labels."""
    plain = {k: v for k, v in sample.items() if isinstance(v, Tensor | str | int | float)}
    instances = sample.get("instances")
    if instances is not None:
        plain |= {"gt_boxes": instances.gt_boxes.tensor, "gt_classes": instances.gt_classes}
    return plain
