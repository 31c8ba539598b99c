"""Exponential moving average of a model's weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from detrex.utils.shares import share_of


class ModelEma:
    """``average <- decay * average + (1 - decay) * weight`` after every optimizer step.

    Floating-point parameters and saved buffers are averaged; integer buffers are copied. A tensor
    that the model registers under several names is kept once, under its first one.

    Args:
        model: the averages start as its present weights.
        decay: weight of the past, in [0, 1].
        device: where the averages live; "" means beside the model's weights.
        warmup: after n updates the decay is ``decay * (1 - exp(-n / warmup))``; 0: at once.
    """

    def __init__(
        self, model: nn.Module, decay: float = 0.999, device: str = "", warmup: int = 0
    ) -> None:
        self.decay, self.device, self.warmup = decay, device, warmup
        self.averages = {name: self._place(tensor.clone()) for name, tensor in named_weights(model)}

    def update(self, model: nn.Module, number: int) -> None:
        """Average in the model's present weights; ``number`` counts the updates, this one too."""
        grown = 1 - math.exp(-number / self.warmup) if self.warmup else 1.0
        update_averages(self.averages, model, self.decay * grown)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own, bit for bit."""
        weights = {name: tensor.clone() for name, tensor in named_weights(model)}
        copy_weights(self.averages, model)
        try:
            yield
        finally:
            copy_weights(weights, model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from saved averages, whole tensors.

        Raises:
            KeyError: an average is not in ``state``.
        """
        for name, average in self.averages.items():
            average.copy_(share_of(state[name], average))

    def _place(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(self.device) if self.device else tensor


@torch.no_grad()
def update_averages(averages: Mapping[str, Tensor], model: nn.Module, decay: float) -> None:
    """``average <- decay * average + (1 - decay) * weight`` in place; integers are copied."""
    for name, tensor in named_weights(model):
        average = averages[name]
        if average.is_floating_point():
            average.lerp_(tensor.to(average.device), 1 - decay)
        else:
            average.copy_(tensor)


@torch.no_grad()
def copy_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copy named weights into a model."""
    for name, tensor in named_weights(model):
        tensor.copy_(weights[name])


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The model's parameters and saved buffers, each once."""
    saved = model.state_dict(keep_vars=True)
    yield from model.named_parameters()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)
