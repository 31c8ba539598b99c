"""How a kernel becomes a PyTorch operator: autograd, torch.compile and export."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

INPUTS = "Tensor value, SymInt[] shapes, Tensor locations, Tensor weights"


def attention_operator(name: str, forward: Callable, backward: Callable) -> Callable:
    """The operator ``detrex::<name>`` with its gradient ``detrex::<name>_backward``.

    ``forward(value, shapes, locations, weights) -> out`` and
    ``backward(grad, value, shapes, locations, weights) -> (grad_value, grad_locations,
    grad_weights)`` compute; shapes is flat: (height, width, height, width, ...). Only the inputs
    are kept for the backward pass.
    """
    custom_op = torch.library.custom_op
    operator = custom_op(
        f"detrex::{name}", forward, mutates_args=(), schema=f"({INPUTS}) -> Tensor"
    )
    gradient = custom_op(
        f"detrex::{name}_backward",
        backward,
        mutates_args=(),
        schema=f"(Tensor grad, {INPUTS}) -> (Tensor, Tensor, Tensor)",
    )

    @operator.register_fake
    def _(value, shapes, locations, weights):
        batch, _, heads, dim = value.shape
        return value.new_empty(batch, locations.shape[1], heads * dim)

    @gradient.register_fake
    def _(grad, value, shapes, locations, weights):
        return tuple(x.new_empty(x.shape) for x in (value, locations, weights))

    def keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
        value, ctx.shapes, locations, weights = inputs
        ctx.save_for_backward(value, locations, weights)

    def differentiate(ctx, grad: Tensor) -> tuple:
        value, locations, weights = ctx.saved_tensors
        grads = gradient(grad, value, ctx.shapes, locations, weights)
        return grads[0], None, grads[1], grads[2]

    operator.register_autograd(differentiate, setup_context=keep_inputs)
    return operator
