"""Stopping at the first loss that is not a number, with what is needed to find out why."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from detectron2.utils import comm
from torch import Tensor

from detrex.utils.files import atomic_write

from .failures import NonFiniteLoss

if TYPE_CHECKING:
    from .trainer import Trainer


def check_finite(
    trainer: Trainer,
    losses: Sequence[dict[str, Tensor]],
    norm: Tensor | None,
    batches: Sequence[list[dict]],
) -> list[dict[str, float]]:
    """Return the losses as numbers, before the optimizer has used their gradients.

    Args:
        trainer: whose step this is.
        losses: of each forward pass; scalars.
        norm: the gradient's norm; with loss scaling an infinite one is normal, and skipped.
        batches: the input of each forward pass.

    Raises:
        NonFiniteLoss: naming the loss, the iteration and the image files. The model, the inputs and
            the losses are in ``nan_state.pth`` in the output folder.
    """
    numbers = _to_numbers(losses, norm)
    scaled = trainer.grad_scaler.is_enabled()
    for entry, batch in zip(numbers, batches, strict=True):
        for name, value in entry.items():
            if not math.isfinite(value) and not (scaled and name == "grad_norm"):
                if name == "grad_norm" and comm.get_world_size() > 1:
                    time.sleep(
                        2
                    )  # gradients are shared: the process whose loss it was speaks first
                path = _save_state(trainer, entry, batch)
                files = ", ".join(str(sample.get("file_name")) for sample in batch)
                raise NonFiniteLoss(
                    f"{name} is {value} in iteration {trainer.iter}; images: {files}; "
                    f"model, inputs and losses are in {path}"
                )
    return numbers


def _to_numbers(losses: Sequence[dict[str, Tensor]], norm: Tensor | None) -> list[dict[str, float]]:
    named = [list(entry.items()) for entry in losses]
    if norm is not None:
        for entry in named:
            entry.append(("grad_norm", norm))
    flat = [value.float().reshape(()) for entry in named for _, value in entry]
    values = iter(torch.stack(flat).tolist())  # one copy from the device
    return [{name: next(values) for name, _ in entry} for entry in named]


def _save_state(trainer: Trainer, losses: dict[str, float], batch: list[dict]) -> Path:
    rank = comm.get_rank()
    name = f"nan_state.rank{rank}.pth" if rank else "nan_state.pth"
    path = Path(trainer.options.output_dir) / name
    state = {
        "model": trainer.network.state_dict(),
        "iteration": trainer.iter,
        "losses": losses,
        "inputs": [dict(_plain_sample(sample)) for sample in batch],
    }
    with atomic_write(path, "wb") as stream:
        torch.save(state, stream)
    return path


def _plain_sample(sample: dict) -> Iterator[tuple[str, object]]:
    """Keep what loads again without unpickling classes: instances become boxes and labels."""
    for key, value in sample.items():
        if isinstance(value, Tensor | str | int | float):
            yield key, value
    instances = sample.get("instances")
    if instances is not None:
        yield "gt_boxes", instances.gt_boxes.tensor
        yield "gt_classes", instances.gt_classes
