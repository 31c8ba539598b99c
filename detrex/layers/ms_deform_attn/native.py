"""The CPU path: ``kernel.c`` through ctypes, as the operator ``detrex::deformable_attention_c``."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from detrex.utils.compiler import call_c, library_or_reason

from .operator import attention_operator, reference_shares

SOURCE = Path(__file__).with_name("kernel.c")
DEFINES = {
    torch.float32: ("REAL=float",),
    torch.float64: ("REAL=double",),
    torch.bfloat16: ("REAL=float", "BFLOAT16"),
}


def why_unavailable(dtype: torch.dtype) -> str | None:
    """Why the kernel cannot be used for tensors of this dtype; None if it can."""
    library = library_or_reason(SOURCE, *DEFINES[_stored(dtype)])
    return library if isinstance(library, str) else None


def _stored(dtype: torch.dtype) -> torch.dtype:
    """What the kernel reads and writes for tensors of this dtype."""
    return dtype if dtype in DEFINES else torch.float32


@functools.cache  # promote_types is an operator call, the only one here in a training step
def _common(*dtypes: torch.dtype) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes)


def attend(
    value: Tensor,
    shapes: list[int],
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """The operator, for tensors of different dtypes: none is rounded to fewer bits."""
    dtype = _stored(_common(value.dtype, offsets.dtype, logits.dtype))
    stored, offsets, logits = (x.to(dtype) for x in (value, offsets, logits))
    if reference is not None:
        reference = reference.to(_common(dtype, torch.float32))
    return _operator(stored, shapes, offsets, logits, reference, mask).to(value.dtype)


def _sizes(value: Tensor, shapes: list[int], offsets: Tensor, reference: Tensor | None) -> list:
    """The fields of ``Sizes`` in kernel.c."""
    queries, _, levels, points = offsets.shape[1:5]
    framed = sum((h + 2) * (w + 2) for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    box = 0 if reference is None else reference.shape[-1]
    return [*value.shape, queries, levels, points, box, framed]


def _call(name: str, value: Tensor, *arguments: Tensor | list | int) -> None:
    """Call a function of kernel.c; lists are its structs of pointers or of integers."""
    call_c(getattr(library_or_reason(SOURCE, *DEFINES[value.dtype]), name), *arguments)


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [x if x is None else x.contiguous() for x in tensors]


def _workspace(value: Tensor, workers: int, pixels: int) -> Tensor:
    """Room for the levels of one head per worker, in the dtype that is computed in."""
    dtype = _common(value.dtype, torch.float32)
    return value.new_empty(workers, pixels * value.shape[-1], dtype=dtype)


def _forward(value: Tensor, shapes: list[int], offsets: Tensor, logits: Tensor, reference, mask):
    inputs = _contiguous(value, offsets, logits, reference, mask)
    batch, _, heads, dim = value.shape
    sizes = _sizes(value, shapes, offsets, reference)
    out = value.new_empty(batch, offsets.shape[1], heads * dim)
    threads, jobs = torch.get_num_threads(), max(batch * heads, 1)
    shares = -(-threads // jobs)  # of the queries of a head
    workers = min(threads, jobs * shares)
    workspace = _workspace(value, workers, sizes[-1])
    _call("attention_forward", value, inputs, shapes, sizes, out, workspace, shares, workers)
    return out


def _backward(grad: Tensor, value: Tensor, shapes, offsets, logits, reference, mask, moving: bool):
    inputs = _contiguous(value, offsets, logits, reference, mask)
    grads = [*map(torch.empty_like, inputs[:3]), reference_shares(reference, offsets, moving)]
    sizes = _sizes(value, shapes, offsets, reference)
    workers = max(min(torch.get_num_threads(), value.shape[0] * value.shape[2]), 1)
    workspace = _workspace(value, workers, 2 * sizes[-1])
    grad = grad.contiguous()
    _call("attention_backward", value, inputs, shapes, sizes, grad, grads, workspace, workers)
    return tuple(grads)


_operator = attention_operator("deformable_attention_c", _forward, _backward)
