"""The Triton kernels: in Triton's interpreter on a CPU, and compiled where there is a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from detrex.layers.ms_deform_attn import gpu
from detrex.layers.ms_deform_attn.plain import plain_attention

needs_triton = pytest.mark.skipif(
    gpu.why_unavailable("cuda", torch.float32) is not None, reason="Triton is not installed"
)
SHAPES = [(4, 5), (2, 3), (1, 1)]
# (dtype, heads, channels, queries): powers of two or not, one block of queries, two, none
CASES = [
    ("float32", 2, 16, 5),
    ("float32", 1, 20, 33),
    ("bfloat16", 2, 32, 5),
    ("float16", 1, 4, 0),
]


def check(device: str, dtype: str, heads: int, dim: int, queries: int) -> None:
    """Output and gradients equal plain PyTorch in fp64 from the same (rounded) values."""
    generator = torch.Generator().manual_seed(0)
    samples = (2, queries, heads, len(SHAPES), 2)
    value = torch.randn(2, 27, heads, dim, generator=generator).to(getattr(torch, dtype))
    locations = torch.rand(*samples, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(samples, generator=generator)
    grad = torch.randn(2, queries, heads * dim, generator=generator).to(value.dtype)
    exact = [x.double().requires_grad_() for x in (value, locations, weights)]
    expected = plain_attention(exact[0], SHAPES, *exact[1:])
    expected = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    leaves = [x.to(device).requires_grad_() for x in (value, locations, weights)]
    out = gpu.attend(leaves[0], [side for shape in SHAPES for side in shape], *leaves[1:])
    found = [out, *torch.autograd.grad(out, leaves, grad.to(device))]
    assert [x.dtype for x in found] == [value.dtype] * 2 + [torch.float32] * 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b.to(a.dtype), **tolerance(a.dtype))


def tolerance(dtype: torch.dtype) -> dict:
    """One rounding of the result for half precision: sums are fp32."""
    return dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else dict(rtol=1e-2, atol=1e-3)


@needs_triton
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(case: tuple) -> None:
    check("cuda", *case)


@needs_triton
def test_in_the_interpreter() -> None:
    """In a process of its own: Triton reads the variable when the kernels are defined."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{case} equal" for case in CASES]


if __name__ == "__main__":
    for case in CASES:
        check("cpu", *case)
        print(f"{case} equal")
