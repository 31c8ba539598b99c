"""The CUDA path: Triton kernels, as the operator ``detrex::deformable_attention_triton``."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings

import torch
from torch import Tensor

from detrex.utils.device import send

from .operator import attention_operator, reference_shares

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Elements of a tile (queries * samples * channels) per warp: 32 a thread, which fit the registers
# with no spill. Usually that is one warp a program: it never waits for another one.
TILE = 1024


def why_unavailable(device: str, dtype: torch.dtype) -> str | None:
    """Why the Triton kernels cannot be used; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton needs a CUDA device, the tensors are on {device}"
    return None if dtype in DTYPES else f"the Triton kernels do not compute in {dtype}"


@functools.lru_cache(maxsize=1024)
def _levels(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """(height, width, first token) of each level, (L, 3) int32, sent once without waiting."""
    rows, first = [], 0
    for height, width in zip(shapes[::2], shapes[1::2], strict=True):
        rows.append((height, width, first))
        first += height * width
    return send(torch.tensor(rows, dtype=torch.int32), device, pin=True)


def compile_options(heads: int, dim: int, levels: int, points: int, box: int) -> tuple[dict, dict]:
    """The constants that a kernel is compiled for, and the compiler's options."""
    samples, channels = (_power_of_two(size) for size in (levels * points, dim))
    block = max(TILE // (samples * channels), 1)
    warps = min(max(block * samples * channels // TILE, 1), 16)
    sizes = dict(HEADS=heads, LEVELS=levels, POINTS=points, DIM=dim, BOX=box)
    sizes |= dict(BLOCK=block, SAMPLES=samples, CHANNELS=channels)
    return sizes, dict(num_warps=warps, enable_fp_fusion=True)


def _power_of_two(size: int) -> int:
    """The next one, as Triton's tiles need."""
    return 1 << (size - 1).bit_length()


def _launch(kernel, tensors: list[Tensor | None], shapes: list[int], **constants) -> None:
    """One program per image, head and block of queries; the operator's inputs come first."""
    value, offsets, _, reference = tensors[:4]
    batch, tokens, heads, dim = value.shape
    queries, _, levels, points = offsets.shape[1:5]
    box = 0 if reference is None else reference.shape[-1]
    sizes, options = compile_options(heads, dim, levels, points, box)
    grid = (-(-queries // sizes["BLOCK"]), heads, batch)
    if 0 in grid:
        return
    tensors[3] = offsets if reference is None else reference  # any pointer: it is not read
    levels = _levels(tuple(shapes), value.device)
    with torch.cuda.device_of(value):
        kernel[grid](levels, *tensors, tokens, queries, **sizes, **constants, **options)


def _ready(value: Tensor, offsets: Tensor, logits: Tensor, reference: Tensor | None, mask) -> list:
    value = value if mask is None else value.masked_fill(mask[..., None, None], 0.0)
    reference = None if reference is None else reference.float().contiguous()
    return [*(x.contiguous() for x in (value, offsets, logits)), reference]


def _forward(value: Tensor, shapes: list[int], offsets: Tensor, logits: Tensor, reference, mask):
    from .kernels import forward_kernel  # imports Triton, which a CPU machine may not have

    batch, _, heads, dim = value.shape
    out = value.new_empty(batch, offsets.shape[1], heads * dim)
    inputs = _ready(value, offsets, logits, reference, mask)
    _launch(forward_kernel, [*inputs, out], shapes)
    return out


def _backward(grad: Tensor, value: Tensor, shapes, offsets, logits, reference, mask, moving: bool):
    from .kernels import backward_kernel

    _alert_not_deterministic()
    inputs = _ready(value, offsets, logits, reference, mask)
    grad_value = torch.zeros_like(inputs[0], dtype=torch.float32)  # summed by atomic additions
    grads = [grad_value, *map(torch.empty_like, inputs[1:3])]
    grads.append(reference_shares(reference, offsets, moving))
    tensors = [*inputs, grad.contiguous(), *grads]
    _launch(backward_kernel, tensors, shapes, MOVING=moving)
    if mask is not None:
        grad_value.masked_fill_(mask[..., None, None], 0.0)
    return grad_value.to(value.dtype), *grads[1:]


def _alert_not_deterministic() -> None:
    """As PyTorch's own operators whose sums depend on the order of atomic additions.

    Raises:
        RuntimeError: under ``torch.use_deterministic_algorithms(True)``.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "the gradient of deformable attention is not deterministic on CUDA: train on the CPU, or "
        "allow it with torch.use_deterministic_algorithms(True, warn_only=True)"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)


attend = attention_operator("deformable_attention_triton", _forward, _backward)
