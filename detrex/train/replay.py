"""Repeating a step that ended in a non-finite loss, to see where in the model it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import Tensor, nn

from detrex.config.lengths import scheduled_modules
from detrex.utils.device import AMP_TYPES

from .trainer import seed_step


@dataclass(frozen=True)
class Replay:
    """Results of the repeated step.

    Attributes:
        losses: of the pass that failed.
        module: name of the first module whose output is not finite; None if all are finite.
        parameters: names of parameters that are not finite.
        gradients: names of parameters with a gradient that is not finite, if the losses are finite.
    """

    losses: dict[str, float]
    module: str | None
    parameters: list[str]
    gradients: list[str]


def replay(cfg: DictConfig, model: nn.Module, snapshot: Mapping) -> Replay:
    """Repeat a step's forward and backward pass with its weights, inputs and random numbers.

    The loss of a run of one process is reproduced exactly. With several, losses that are divided by
    a count over all processes differ by a factor.

    Args:
        cfg: the run's, with a concrete seed.
        model: with the snapshot's weights, on its device.
        snapshot: content of ``nan_state.pth``.
    """
    model.train()
    for module in scheduled_modules(model):
        module.iter = snapshot["iteration"]
    kind = next(model.parameters()).device.type
    seed_step(cfg.train.seed, snapshot["iteration"], snapshot["rank"], kind)
    amp = cfg.train.amp
    with torch.autocast(kind, dtype=AMP_TYPES[amp.dtype], enabled=amp.enabled):
        for batch in snapshot["earlier_inputs"]:
            model([_sample(plain) for plain in batch])
        bad_modules: list[str] = []
        hooks = [
            module.register_forward_hook(_watch(name or "the model", bad_modules))
            for name, module in model.named_modules()
        ]
        losses = model([_sample(plain) for plain in snapshot["inputs"]])
        for hook in hooks:
            hook.remove()
    total = sum(losses.values())
    total.backward()
    named = list(model.named_parameters())
    bad_gradients = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
    return Replay(
        losses={name: loss.item() for name, loss in {**losses, "total_loss": total}.items()},
        module=bad_modules[0] if bad_modules else None,
        parameters=[name for name, p in named if not p.isfinite().all()],
        gradients=bad_gradients if total.isfinite() else [],
    )


def _watch(name: str, bad_modules: list[str]) -> Callable:
    def hook(module: nn.Module, inputs: object, output: object) -> None:
        if not all(value.isfinite().all() for value in _tensors(output)):
            bad_modules.append(name)

    return hook


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _tensors(vars(value))


def _sample(plain: dict) -> dict:
    """Return the model's input that a snapshot has as plain values."""
    sample = dict(plain)
    instances = Instances(tuple(sample["image"].shape[-2:]))
    if "gt_boxes" in sample:
        instances.gt_boxes = Boxes(sample.pop("gt_boxes"))
        instances.gt_classes = sample.pop("gt_classes")
        sample["instances"] = instances
    return sample
