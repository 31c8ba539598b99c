"""Deformable attention as it runs on the device against plain PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import attention
from benchmarks.gpu.checks import Result, relative, within
from detrex.layers.ms_deform_attn import deformable_attention
from detrex.layers.ms_deform_attn.plain import plain_attention

# Of the norm of the reference: fp32 sums of some hundred products; half precision rounds the result
# once, by 2^-9 and 2^-12 of a number at most.
TOLERANCES = {"float32": 2e-5, "bfloat16": 4e-3, "float16": 1e-3}
OUTPUTS = ("output", "value", "offsets", "logits", "reference")
# The slope of a sample jumps where it crosses a line between pixel centres: a place that rounding
# moves over one has another gradient. It moves by 1e-5 pixels: few do.
JUMPING = {"offsets", "reference"}
JUMPED = 1e-3  # share of the numbers that are left out there, the worst
FULL = {name: getattr(attention, name) for name in ("SHAPES", "TOKENS", "QUERIES")}
TINY = {"SHAPES": [(12, 16), (6, 8), (3, 4), (2, 2)], "TOKENS": 256}
TINY["QUERIES"] = {"encoder": 256, "decoder": 60}


def sizes_on(device: str) -> dict:
    """The attention benchmark's constants: its own on a GPU, tiny ones on the CPU."""
    return FULL if device == "cuda" else TINY


def check_kernels(device: str, dtype: str) -> Result:
    """Output and gradients at the sizes of an encoder, of a decoder, and at odd ones."""
    sizes = {"encoder": encoder, "decoder": decoder, "odd sizes": odd}
    errors = {}
    for name, make in sizes.items():
        tensors, shapes, mask = make(device)
        tensors = [x.to(getattr(torch, dtype)) for x in tensors[:3]] + tensors[3:]
        for output, size in compare(tensors, shapes, mask).items():
            stored = "float32" if output == "reference" else dtype
            errors[f"{name}: {output}"] = (size, TOLERANCES[stored])
    return within(errors, [{"what": name, "error": error} for name, (error, _) in errors.items()])


def encoder(device: str) -> tuple[list[Tensor], list, Tensor]:
    """Value, offsets, logits and points; the shapes; padding at the end of the second image."""
    return _of_benchmark("encoder", device)


def decoder(device: str) -> tuple[list[Tensor], list, Tensor]:
    """As :func:`encoder`, with boxes as reference."""
    return _of_benchmark("decoder", device)


def _of_benchmark(kind: str, device: str) -> tuple[list[Tensor], list, Tensor]:
    with patch.multiple(attention, **sizes_on(device)):
        value, shapes, *rest = attention.inputs(kind, device)
    if kind == "encoder":  # points off the pixels, for rounded offsets are often whole numbers
        rest[2] = 0.93 * rest[2] + 0.031
    mask = torch.zeros(value.shape[:2], dtype=torch.bool, device=device)
    mask[1, -value.shape[1] // 9 :] = True
    return [value, *rest], shapes, mask


def odd(device: str) -> tuple[list[Tensor], list, Tensor]:
    """Nothing is a power of two: 3 heads of 20 channels, 5 levels of 3 points, 131 queries."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(37, 41), (19, 23), (11, 7), (3, 5), (1, 1)]
    tokens, samples = sum(h * w for h, w in shapes), (3, 131, 3, 5, 3)
    tensors = [
        torch.randn(3, tokens, 3, 20, generator=generator),
        torch.randn(*samples, 2, generator=generator),
        torch.randn(samples, generator=generator),
        torch.rand(3, 131, 5, 4, generator=generator),
    ]
    mask = torch.rand(3, tokens, generator=generator) > 0.8
    return [x.to(device) for x in tensors], shapes, mask.to(device)


def compare(tensors: list[Tensor], shapes: list, mask: Tensor) -> dict[str, float]:
    """Error of the output and of each gradient, relative to its norm."""
    batch, _, heads, dim = tensors[0].shape
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(batch, tensors[1].shape[1], heads * dim, generator=generator)
    grad = grad.to(tensors[0])
    results = evaluate(deformable_attention, tensors, shapes, mask, grad)
    expected = evaluate(plain_attention, [x.double() for x in tensors], shapes, mask, grad)
    return {
        name: error(a.double(), b, JUMPED if name in JUMPING else 0.0)
        for name, a, b in zip(OUTPUTS, results, expected, strict=True)
    }


def evaluate(
    function: Callable, tensors: list[Tensor], shapes: list, mask: Tensor, grad: Tensor
) -> list[Tensor]:
    """Output and gradients."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    value, *rest = leaves
    out = function(value, shapes, *rest, mask)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def error(result: Tensor, expected: Tensor, left_out: float) -> float:
    """Norm of the difference without this share of the largest, over that of ``expected``; not a
    number if any of ``result`` is none."""
    if not result.isfinite().all():
        return float("nan")
    differences = (result - expected).abs().flatten().sort().values
    rest = differences[: len(differences) - int(left_out * len(differences))]
    return relative(rest.norm().item(), expected.norm().item())
