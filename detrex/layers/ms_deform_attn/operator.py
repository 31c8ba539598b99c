"""How a kernel becomes a PyTorch operator: autograd, torch.compile and export."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

INPUTS = (
    "Tensor value, SymInt[] shapes, Tensor offsets, Tensor logits, Tensor? reference, Tensor? mask"
)


def attention_operator(name: str, forward: Callable, backward: Callable) -> Callable:
    """The operator ``detrex::<name>`` with its gradient ``detrex::<name>_backward``.

    ``forward(*inputs) -> out`` and ``backward(grad, *inputs, moving) -> (grad_value, grad_offsets,
    grad_logits, grad_reference)`` compute. Inputs are those of ``deformable_attention``, shapes
    flat: (height, width, height, width, ...); grad_reference is one share per head, (B, N, H, L,
    2 or 4), and empty unless ``moving``. Only the inputs are kept for the backward pass.
    """
    custom_op = torch.library.custom_op
    operator = custom_op(
        f"detrex::{name}", forward, mutates_args=(), schema=f"({INPUTS}) -> Tensor"
    )
    gradient = custom_op(
        f"detrex::{name}_backward",
        backward,
        mutates_args=(),
        schema=f"(Tensor grad, {INPUTS}, bool moving) -> (Tensor, Tensor, Tensor, Tensor)",
    )

    @operator.register_fake
    def _(value, shapes, offsets, logits, reference, mask):
        batch, _, heads, dim = value.shape
        return value.new_empty(batch, offsets.shape[1], heads * dim)

    @gradient.register_fake
    def _(grad, value, shapes, offsets, logits, reference, mask, moving):
        return (
            *(x.new_empty(x.shape) for x in (value, offsets, logits)),
            reference_shares(reference, offsets, moving),
        )

    def keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
        value, ctx.shapes, *tensors = inputs
        ctx.save_for_backward(value, *tensors)

    def differentiate(ctx, grad: Tensor) -> tuple:
        value, *tensors = ctx.saved_tensors
        moving = ctx.needs_input_grad[4]
        value, offsets, logits, shares = gradient(grad, value, ctx.shapes, *tensors, moving)
        return value, None, offsets, logits, shares.sum(2) if moving else None, None

    operator.register_autograd(differentiate, setup_context=keep_inputs)
    return operator


def reference_shares(reference: Tensor | None, offsets: Tensor, moving: bool) -> Tensor:
    """An uninitialised tensor for the gradient of ``reference``: (B, N, H, L, 2 or 4), or empty
    if it needs none."""
    if not moving:
        return offsets.new_empty(0)
    batch, queries, levels, size = reference.shape
    return reference.new_empty(batch, queries, offsets.shape[2], levels, size)
