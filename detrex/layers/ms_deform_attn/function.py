"""Multi-scale deformable attention as a function (Deformable DETR, Zhu et al. 2021, eq. 3).

One of three paths computes it: a C kernel on the CPU, Triton kernels on CUDA, plain PyTorch
elsewhere and wherever the other two cannot run. ``DETREX_ATTENTION=pytorch|c|triton`` forces one.

Legend: B images, S tokens of all levels, N queries, H heads, D channels per head, L levels,
P points per level.
"""

from __future__ import annotations

import functools
import logging
import os

import torch
from torch import Tensor

from detrex.utils.errors import InputError

from . import gpu, native
from .plain import Shapes, plain_attention

logger = logging.getLogger(__name__)

VARIABLE = "DETREX_ATTENTION"
PATHS = ("auto", "pytorch", "c", "triton")
BEST = {"cpu": "c", "cuda": "triton"}


def as_shapes(spatial_shapes: Tensor | Shapes) -> list[tuple[int, int]]:
    """(height, width) of each level as Python ints; a tensor costs a device synchronisation."""
    if isinstance(spatial_shapes, Tensor):
        spatial_shapes = spatial_shapes.tolist()
    return [(h, w) for h, w in spatial_shapes]


def deformable_attention(
    value: Tensor,
    shapes: Shapes,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Weighted sum (B, N, H * D) of bilinear samples, in value's dtype.

    Computed in fp32, or in fp64 where value is fp64. Coordinates are never rounded to less: in
    bf16 they are off by pixels on a large image. Softmax and locations are never stored.

    Args:
        value: (B, S, H, D), levels in the order of ``shapes``; zero outside of a level.
        shapes: (height, width) of each level.
        offsets: (B, N, H, L, P, 2) as (x, y).
        logits: (B, N, H, L, P); their softmax over L * P gives the weights.
        reference: in [0, 1] of the level: points (B, N, L, 2) with offsets in pixels of the level,
            or boxes (B, N, L, 4) cxcywh with offsets in half box sizes / P. None: offsets are the
            locations in [0, 1], and logits are the weights.
        mask: (B, S), True = padding, which is read as zero.

    Raises:
        ValueError: sizes that do not fit together.
        InputError: ``DETREX_ATTENTION`` names a path that cannot run here.
    """
    _check_sizes(value, shapes, offsets, logits, reference, mask)
    path = attention_path(value.device.type, value.dtype)
    if path == "pytorch":
        return plain_attention(value, shapes, offsets, logits, reference, mask)
    flat = [side for shape in shapes for side in shape]
    attend = gpu.attend if path == "triton" else native.attend
    return attend(value, flat, offsets, logits, reference, mask)


def multi_scale_deformable_attention(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """``deformable_attention`` at locations (B, N, H, L, P, 2) in [0, 1] with weights
    (B, N, H, L, P)."""
    return deformable_attention(value, shapes, locations, weights, None)


def _check_sizes(
    value: Tensor,
    shapes: Shapes,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor | None,
    mask: Tensor | None,
) -> None:
    """The kernels read memory by these sizes, so they must hold."""
    batch, tokens, heads, _ = value.shape
    queries, levels = offsets.shape[1], len(shapes)
    samples = (batch, queries, heads, levels, offsets.shape[4])
    if not (
        tokens == sum(h * w for h, w in shapes)
        and logits.shape == samples
        and offsets.shape == (*samples, 2)
        and (reference is None or reference.shape[:-1] == (batch, queries, levels))
        and (reference is None or reference.shape[-1] in (2, 4))
        and (mask is None or (mask.shape == (batch, tokens) and mask.dtype == torch.bool))
    ):
        tensors = dict(value=value, offsets=offsets, logits=logits, reference=reference, mask=mask)
        sizes = [f"{name} {tuple(x.shape)}" for name, x in tensors.items() if x is not None]
        raise ValueError(
            f"deformable attention: levels {list(shapes)}, {', '.join(sizes)} do not fit together"
        )


@torch.compiler.assume_constant_result
def attention_path(device: str, dtype: torch.dtype) -> str:
    """The path for values of this dtype on this type of device: "pytorch", "c" or "triton".

    Raises:
        InputError: ``DETREX_ATTENTION`` is unknown, or names a path that cannot run.
    """
    return _choose_path(os.environ.get(VARIABLE, "auto"), device, dtype)


@functools.cache
def _choose_path(choice: str, device: str, dtype: torch.dtype) -> str:
    """The path; it is logged."""
    if choice not in PATHS:
        raise InputError(f"{VARIABLE}={choice}: not one of {', '.join(PATHS)}")
    path = BEST.get(device, "pytorch") if choice == "auto" else choice
    why = None
    if path == "c" and device != "cpu":
        why = f"the C kernel runs on the CPU, the tensors are on {device}"
    elif path != "pytorch":
        why = native.why_unavailable(dtype) if path == "c" else gpu.why_unavailable(device, dtype)
    if why and choice != "auto":
        raise InputError(f"{VARIABLE}={choice}: {why}; unset it to use what runs here")
    path = "pytorch" if why else path
    name = {"pytorch": "plain PyTorch", "c": "the C kernel", "triton": "Triton kernels"}[path]
    logger.info("deformable attention on %s: %s%s", device, name, f" ({why})" if why else "")
    return path
