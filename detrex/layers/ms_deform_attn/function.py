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


def multi_scale_deformable_attention(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples, zero outside the level.

    value (B, S, H, D), levels in the order of ``shapes``; locations (B, N, H, L, P, 2) as (x, y)
    in [0, 1] of each level; weights (B, N, H, L, P). Returns (B, N, H * D) of value's dtype.

    Computed in fp32, or in fp64 where value is fp64. Coordinates are never rounded to less: in
    bf16 they are off by pixels on a large image.

    Raises:
        ValueError: sizes that do not fit together.
        InputError: ``DETREX_ATTENTION`` asks for a path that cannot run here.
    """
    _check_sizes(value, shapes, locations, weights)
    path = attention_path(value.device.type, value.dtype)
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations, weights = locations.to(dtype), weights.to(dtype)
    flat = [side for shape in shapes for side in shape]
    if path == "triton":  # reads bf16 values as they are
        return gpu.attend(value, flat, locations, weights)
    if path == "c":
        return native.attend(value.to(dtype), flat, locations, weights).to(value.dtype)
    return plain_attention(value.to(dtype), shapes, locations, weights).to(value.dtype)


def _check_sizes(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> None:
    """The kernels read memory by these sizes, so they must hold."""
    tokens = sum(h * w for h, w in shapes)
    batch, _, heads, dim = value.shape
    expected = (batch, locations.shape[1], heads, len(shapes), locations.shape[4])
    fits = value.shape[1] == tokens and weights.shape == expected
    if not fits or locations.shape != (*expected, 2):
        raise ValueError(
            f"deformable attention: levels {list(shapes)} ({tokens} tokens), value "
            f"{tuple(value.shape)}, locations {tuple(locations.shape)} and weights "
            f"{tuple(weights.shape)} do not fit together"
        )


@torch.compiler.assume_constant_result
def attention_path(device: str, dtype: torch.dtype) -> str:
    """What computes values of this dtype on this type of device: one of PATHS but not "auto".

    Raises:
        InputError: ``DETREX_ATTENTION`` is unknown or asks for a path that cannot run.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in PATHS:
        raise InputError(f"{VARIABLE}={wanted}: not one of {', '.join(PATHS)}")
    path = BEST.get(device, "pytorch") if wanted == "auto" else wanted
    why = _why_unavailable(path, device, dtype)
    if why and wanted != "auto":
        raise InputError(f"{VARIABLE}={wanted}: {why}; unset it to use what runs here")
    path = "pytorch" if why else path
    _announce(path, device, why)
    return path


def _why_unavailable(path: str, device: str, dtype: torch.dtype) -> str | None:
    if path == "c":
        if device != "cpu":
            return f"the C kernel runs on the CPU, the tensors are on {device}"
        return native.why_unavailable(torch.promote_types(dtype, torch.float32))
    return gpu.why_unavailable(device, dtype) if path == "triton" else None


@functools.cache
def _announce(path: str, device: str, why: str | None) -> None:
    name = {"pytorch": "plain PyTorch", "c": "the C kernel", "triton": "Triton kernels"}[path]
    logger.info("deformable attention on %s: %s%s", device, name, f" ({why})" if why else "")
