"""The CPU path: ``kernel.c`` through ctypes, as the operator ``detrex::deformable_attention_c``."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from detrex.utils.compiler import CompileError, load_library

from .operator import attention_operator

SOURCE = Path(__file__).with_name("kernel.c")
REALS = {torch.float32: "float", torch.float64: "double"}


@functools.cache
def _load(dtype: torch.dtype) -> ctypes.CDLL | str:
    """The library, or why there is none: a failed build is not tried again in this process."""
    try:
        return load_library(SOURCE, f"REAL={REALS[dtype]}")
    except CompileError as error:
        return str(error)


def why_unavailable(dtype: torch.dtype) -> str | None:
    """Why the kernel cannot be used for this dtype (float32 or float64); None if it can."""
    library = _load(dtype)
    return library if isinstance(library, str) else None


def _sizes(value: Tensor, shapes: list[int], locations: Tensor) -> list[int]:
    """The fields of ``Sizes`` in kernel.c."""
    queries, _, levels, points = locations.shape[1:5]
    framed = sum((h + 2) * (w + 2) for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    return [*value.shape, queries, levels, points, framed]


def _call(name: str, tensors: list[Tensor], shapes: list[int], sizes: list[int], *counts: int):
    """Call a function of kernel.c; the level shapes come second, as there."""
    value, *rest = [ctypes.c_void_p(x.data_ptr()) for x in tensors]
    shapes, sizes = ((ctypes.c_int64 * len(x))(*x) for x in (shapes, sizes))
    getattr(_load(tensors[0].dtype), name)(
        value, shapes, *rest, sizes, *map(ctypes.c_int64, counts)
    )


def _forward(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    value, locations, weights = (x.contiguous() for x in (value, locations, weights))
    batch, _, heads, dim = value.shape
    sizes = _sizes(value, shapes, locations)
    out = value.new_empty(batch, locations.shape[1], heads * dim)
    threads, jobs = torch.get_num_threads(), max(batch * heads, 1)
    parts = -(-threads // jobs)
    workers = min(threads, jobs * parts)
    workspace = value.new_empty(workers, sizes[-1] * dim)
    tensors = [value, locations, weights, out, workspace]
    _call("attention_forward", tensors, shapes, sizes, parts, workers)
    return out


def _backward(grad: Tensor, value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor):
    inputs = [x.contiguous() for x in (value, locations, weights, grad)]
    gradients = tuple(torch.empty_like(x) for x in inputs[:3])
    batch, _, heads, dim = value.shape
    sizes = _sizes(value, shapes, locations)
    workers = max(min(torch.get_num_threads(), batch * heads), 1)
    workspace = value.new_empty(workers, 2 * sizes[-1] * dim)
    _call("attention_backward", [*inputs, *gradients, workspace], shapes, sizes, workers)
    return gradients


attend = attention_operator("deformable_attention_c", _forward, _backward)
