"""Ending a run at the first loss that is not finite, with what is needed to repeat the step; and
where loss scaling skips every step."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor

from detrex.checkpoint import save_checkpoint
from detrex.utils.device import HostCopy
from detrex.utils.shares import whole_state

from .failures import NonFiniteLoss, reason_of
from .metrics import StepNumbers
from .sharding import is_sharded

if TYPE_CHECKING:
    from .trainer import Trainer

logger = logging.getLogger(__name__)
# Loss scaling begins at 65,536 and halves at each skipped step; a few are usual at the start. Below
# the least scale float16 has no digits left for gradients.
SKIPPED, LEAST_SCALE = 20, 1e-4


class NanGuard:
    """Ends the run at the first loss or gradient norm that is not finite, before it reaches the
    weights.

    With loss scaling an infinite norm is normal: the scaler skips the step. The run ends after
    ``SKIPPED`` skipped steps in a row, or one at a scale below ``LEAST_SCALE``.

    Reading the flag of a step waits for the device. A deferred guard reads it one step later, when
    it has arrived; until then a bad step changes no weights, because the optimizer skips it on the
    device (``found_inf``, as under a ``GradScaler``). Call :meth:`settle` before weights or losses
    are written.

    Args:
        trainer: makes the steps.
        deferred: needs an optimizer with ``fused=True``.
    """

    def __init__(self, trainer: Trainer, deferred: bool) -> None:
        self._trainer, self.deferred = trainer, deferred
        self._last: _WatchedStep | None = None
        self._skipped = 0  # steps in a row
        self._sharded = is_sharded(trainer.network)

    def watch(self, numbers: StepNumbers, batches: Sequence[list[dict]]) -> None:
        """Check a step's numbers after its backward passes and before the optimizer.

        Args:
            numbers: of the step.
            batches: the input of each forward pass.

        Raises:
            NonFiniteLoss: names the loss, the iteration and the image files. The model, the inputs
                and the losses are in ``nan_state.pth`` in the output folder.
        """
        self.settle()
        scaled = self._trainer.grad_scaler.is_enabled()
        finite = numbers.values.isfinite()
        bad = torch.stack([~finite[: -1 if scaled else None].all(), ~finite[-1]])
        if self._sharded:  # the snapshot takes all processes
            bad = bad.int()
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        self._last = _WatchedStep(self._trainer.iter, numbers, batches, bad)
        if not self.deferred:
            self.settle()
        elif not scaled:
            self._trainer.optimizer.grad_scale = None
            self._trainer.optimizer.found_inf = bad[0].float()

    def settle(self) -> None:
        """Wait for the flags of the last step, and check them.

        Raises:
            NonFiniteLoss: as :meth:`watch`.
        """
        step, self._last = self._last, None
        if step is None:
            return
        bad, bad_norm = step.flags()
        scaler = self._trainer.grad_scaler
        self._skipped = self._skipped + 1 if scaler.is_enabled() and bad_norm else 0
        hopeless = self._skipped and (self._skipped >= SKIPPED or scaler.get_scale() < LEAST_SCALE)
        if bad or hopeless:
            raise self._failure(step, norm_counts=hopeless or not scaler.is_enabled())

    def warn_of_skipped_steps(self) -> None:
        """Log a warning if the last steps changed nothing."""
        if self._skipped:
            logger.warning("the last %s", self._skipping())

    def _skipping(self) -> str:
        scale = self._trainer.grad_scaler.get_scale()
        return (
            f"{self._skipped} steps were skipped: their gradients overflow float16 or are NaN "
            f"(loss scale {scale:.3g}); train.amp.dtype=bfloat16 needs no scale"
        )

    def _failure(self, step: _WatchedStep, norm_counts: bool) -> NonFiniteLoss:
        """Save the step; return the error about its first number that is not finite."""
        passes = [*enumerate(step.by_pass())]
        bad = (
            (number, losses, name)
            for number, losses in passes
            for name, value in losses.items()
            if not math.isfinite(value) and (norm_counts or name != "grad_norm")
        )
        number, losses, name = next(bad, (*passes[-1], "grad_norm"))  # else another process's
        rank = comm.get_rank()
        file = f"nan_state.rank{rank}.pth" if rank else "nan_state.pth"
        path = Path(self._trainer.options.output_dir) / file
        more = f"to find out more: python tools/replay.py {path}"
        try:
            self._save(path, step, losses, step.batches[: number + 1])
        except Exception as error:  # whatever it is, the run ends because of the loss
            more = f"{path} could not be written: {reason_of(error)}"
        files = ", ".join(str(sample.get("file_name")) for sample in step.batches[number])
        if self._skipped:
            more = f"the last {self._skipping()}; {more}"
        return NonFiniteLoss(
            f"{name} is {losses[name]} in iteration {step.iteration}; images: {files}; {more}",
            # Processes share gradients: one whose losses are finite may only have received it.
            consequence=name == "grad_norm" and comm.get_world_size() > 1,
        )

    def _save(
        self,
        path: Path,
        step: _WatchedStep,
        losses: dict[str, float],
        batches: Sequence[list[dict]],
    ) -> None:
        weights = self._trainer.network.state_dict(keep_vars=self._sharded)
        state = {
            "model": whole_state(weights) if self._sharded else weights,
            "iteration": step.iteration,
            "rank": comm.get_rank(),
            "losses": losses,
            # The step's earlier passes have used up random numbers.
            "earlier_inputs": [[_plain_sample(sample) for sample in b] for b in batches[:-1]],
            "inputs": [_plain_sample(sample) for sample in batches[-1]],
        }
        save_checkpoint(state, path)


class _WatchedStep:
    """A step whose flags (2,), a bad loss and a bad norm, are being copied to the host."""

    def __init__(
        self, iteration: int, numbers: StepNumbers, batches: Sequence[list[dict]], bad: Tensor
    ) -> None:
        self.iteration, self.numbers, self.batches = iteration, numbers, batches
        self._flags = HostCopy(bad)

    def flags(self) -> list[bool]:
        return self._flags.wait().numpy().tolist()

    def by_pass(self) -> list[dict[str, float]]:
        return self.numbers.by_pass(self.numbers.values.tolist())


def _plain_sample(sample: dict) -> dict:
    """Return plain values that load without unpickling classes: boxes and labels of instances."""
    plain = {k: v for k, v in sample.items() if isinstance(v, Tensor | str | int | float)}
    instances = sample.get("instances")
    if instances is not None:
        plain |= {"gt_boxes": instances.gt_boxes.tensor, "gt_classes": instances.gt_classes}
    return plain
