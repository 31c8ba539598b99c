"""The CUDA path: Triton kernels, as the operator ``detrex::deformable_attention_triton``."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from .operator import attention_operator

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 32  # queries per program


def why_unavailable(device: str, dtype: torch.dtype) -> str | None:
    """Why the Triton kernels cannot be used; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton needs a CUDA device, the tensors are on {device}"
    return None if dtype in DTYPES else f"the Triton kernels do not compute in {dtype}"


@functools.lru_cache(maxsize=1024)
def _levels(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """(height, width, first token) of each level, (L, 3) int32, sent to the device once."""
    rows, first = [], 0
    for height, width in zip(shapes[::2], shapes[1::2], strict=True):
        rows.append((height, width, first))
        first += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _launch(kernel, tensors: list[Tensor], shapes: list[int]) -> None:
    """One program per image, head and block of queries; value and places come first."""
    value, places = tensors[:2]
    _, tokens, heads, dim = value.shape
    batch, queries, _, levels, points = places.shape[:5]
    grid = (-(-queries // BLOCK), heads, batch)
    if 0 in (*grid, levels * points, tokens):
        return
    kernel[grid](
        _levels(tuple(shapes), value.device),
        *tensors,
        tokens,
        queries,
        HEADS=heads,
        LEVELS=levels,
        POINTS=points,
        DIM=dim,
        CHANNELS=1 << (dim - 1).bit_length(),  # Triton's blocks are powers of two
        BLOCK=BLOCK,
    )


def _forward(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    from .kernels import forward_kernel  # imports Triton, which a CPU machine may not have

    inputs = [x.contiguous() for x in (value, locations, weights)]
    batch, _, heads, dim = value.shape
    out = value.new_zeros(batch, locations.shape[1], heads * dim)
    _launch(forward_kernel, [*inputs, out], shapes)
    return out


def _backward(grad: Tensor, value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor):
    from .kernels import backward_kernel

    inputs = [x.contiguous() for x in (value, locations, weights, grad)]
    grad_value = torch.zeros_like(inputs[0], dtype=torch.float32)  # summed by atomic additions
    grad_locations, grad_weights = torch.empty_like(inputs[1]), torch.empty_like(inputs[2])
    _launch(backward_kernel, [*inputs, grad_value, grad_locations, grad_weights], shapes)
    return grad_value.to(value.dtype), grad_locations, grad_weights


attend = attention_operator("deformable_attention_triton", _forward, _backward)
