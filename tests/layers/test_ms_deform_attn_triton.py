"""The Triton kernels: in Triton's interpreter on a CPU, compiled for a GPU that need not be there,
and run where there is one."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detrex.layers.ms_deform_attn import gpu
from detrex.layers.ms_deform_attn.plain import plain_attention

needs_triton = pytest.mark.skipif(
    gpu.why_unavailable("cuda", torch.float32) is not None, reason="Triton is not installed"
)
LEVELS = [(4, 5), (1, 1), (2, 3), (2, 2), (1, 2)]
# (dtype, heads, channels, queries, levels, points, numbers per reference, padding): powers of two
# or not, one block of queries, several, none
CASES = [
    ("float32", 2, 16, 5, 3, 2, 4, True),
    ("float32", 1, 20, 9, 1, 3, 2, True),
    ("float32", 1, 64, 3, 4, 4, None, False),
    ("bfloat16", 2, 32, 3, 4, 4, 2, True),
    ("bfloat16", 1, 64, 3, 5, 1, 4, False),
    ("float16", 1, 4, 0, 2, 1, 4, True),
]


def make_inputs(dtype, heads, dim, queries, levels, points, box, padded) -> tuple[list, list]:
    """Tensors that need gradients, and what follows them: shapes and mask."""
    generator = torch.Generator().manual_seed(0)
    shapes, samples = LEVELS[:levels], (2, queries, heads, levels, points)
    tokens = sum(h * w for h, w in shapes)
    tensors = [
        torch.randn(2, tokens, heads, dim, generator=generator),
        torch.randn(*samples, 2, generator=generator),
        torch.randn(samples, generator=generator),
    ]
    tensors = [x.to(getattr(torch, dtype)) for x in tensors]
    tensors += [torch.rand(2, queries, levels, box, generator=generator)] if box else []
    mask = torch.rand(2, tokens, generator=generator) > 0.7 if padded else None
    return tensors, [shapes, mask]


def evaluate(function, tensors: list, shapes, mask, grad: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    value, *rest = leaves
    out = function(value, shapes, *rest, *[None] * (4 - len(leaves)), mask)
    return [out, *torch.autograd.grad(out, leaves, grad.to(out))]


def check(device: str, case: tuple) -> None:
    """Output and gradients equal plain PyTorch in fp64 from the same (rounded) tensors."""
    tensors, (shapes, mask) = make_inputs(*case)
    grad = torch.randn(2, case[3], case[1] * case[2], generator=torch.Generator().manual_seed(1))
    grad = grad.to(tensors[0])
    expected = evaluate(plain_attention, [x.double() for x in tensors], shapes, mask, grad)
    flat = [side for shape in shapes for side in shape]
    mask = mask if mask is None else mask.to(device)
    found = evaluate(gpu.attend, [x.to(device) for x in tensors], flat, mask, grad)
    for a, b, x in zip(found, expected, [tensors[0], *tensors], strict=True):
        assert a.dtype == x.dtype
        torch.testing.assert_close(a.cpu(), b.to(a.dtype), **tolerance(a.dtype))


def check_start() -> None:
    """Offsets of whole pixels lie on the kinks of bilinear sampling: each falls on the side that
    the original kernel's arithmetic gives, location * size - 0.5, every step rounded."""
    height, width = 5, 29
    value = torch.randn(1, height * width, 1, 4, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(0.5, height), torch.arange(0.5, width), indexing="ij")
    reference = torch.stack([x / width, y / height], -1).view(1, -1, 1, 2)
    offsets = torch.tensor([-2.0, 0.0, 1.0, 3.0])[:, None].expand(1, height * width, 1, 1, 4, 2)
    offsets = offsets.clone().requires_grad_()
    out = gpu.attend(
        value, [height, width], offsets, torch.zeros(offsets.shape[:-1]), reference, None
    )
    (gradient,) = torch.autograd.grad(out.sum(), offsets)
    sizes = torch.tensor([width, height])
    pixels = (reference[:, :, None, :, None] + offsets.detach() / sizes) * sizes - 0.5
    for query, point in torch.cartesian_prod(
        torch.arange(height * width), torch.arange(4)
    ).tolist():
        column, row = pixels[0, query, 0, 0, point].tolist()
        if not (0 < column < width - 1 and 0 < row < height - 1):
            continue
        i, j, share = math.floor(column), math.floor(row), row - math.floor(row)
        image = value.view(height, width, 4).sum(-1)
        slope = (image[j : j + 2, i + 1] - image[j : j + 2, i]) @ torch.tensor([1 - share, share])
        assert abs(gradient[0, query, 0, 0, point, 0] - slope / 4) < 1e-4


def tolerance(dtype: torch.dtype) -> dict:
    """One rounding of the result for half precision: sums are fp32."""
    return dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else dict(rtol=1e-2, atol=1e-2)


@needs_triton
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(case: tuple) -> None:
    check("cuda", case)


@needs_triton
def test_in_the_interpreter() -> None:
    """In a process of its own: Triton reads the variable when the kernels are defined."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{case} equal" for case in CASES] + ["start equal"]


def compile_for_hopper(kernel, dtype: str, box: int, **constants):
    """The kernel for sm_90, with 8 heads of 32 channels and 4 levels of 4 points; needs no GPU."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sizes, options = gpu.compile_options(heads=8, dim=32, levels=4, points=4, box=box)
    sizes |= constants
    full = {"levels": "*i32", "tokens": "i32", "queries": "i32"}
    full |= dict.fromkeys(("reference", "grad_value", "grad_reference"), "*fp32")
    names = kernel.arg_names
    types = {n: "constexpr" if n in sizes else full.get(n, f"*{dtype}") for n in names}
    source = ASTSource(
        kernel,
        types,
        {(names.index(name),): size for name, size in sizes.items()},
        {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if types[n][0] == "*"},
    )
    return compile_kernel(source, target=GPUTarget("cuda", 90, 32), options=options)


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """Registers that did not fit go to the stack."""
    import triton

    (folder / "kernel.cubin").write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [tool, "--dump-resource-usage", folder / "kernel.cubin"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(re.search(r"STACK:(\d+)", output)[1])


@needs_triton
@pytest.mark.parametrize("box", [2, 4])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_compiled_for_hopper(dtype: str, box: int, tmp_path, monkeypatch) -> None:
    """128-bit loads and additions (four fp32, eight bf16), and no register spilled."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from detrex.layers.ms_deform_attn import kernels

    forward = compile_for_hopper(kernels.forward_kernel, dtype, box)
    backward = compile_for_hopper(kernels.backward_kernel, dtype, box, MOVING=box == 4)
    for kernel in (forward, backward):
        assert len(re.findall(r"ld\.global\.v4\.b32", kernel.asm["ptx"])) >= 16
        assert stack_bytes(kernel.asm["cubin"], tmp_path) == 0
    # Triton 3.8 writes "atom" whose result nobody reads, 3.9 "red"
    additions = re.findall(r"(?:red|atom)\.global\S*\.add\S*", backward.asm["ptx"])
    assert additions and all(name.endswith(".v4.f32") for name in additions)


def test_a_gradient_that_is_not_deterministic_says_so() -> None:
    """As PyTorch's own operators do; the check runs before anything of the GPU is touched."""
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="not deterministic on CUDA"):
            gpu._alert_not_deterministic()
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="not deterministic on CUDA"):
            gpu._alert_not_deterministic()
    finally:
        torch.use_deterministic_algorithms(False)
    gpu._alert_not_deterministic()


if __name__ == "__main__":
    for case in CASES:
        check("cpu", case)
        print(f"{case} equal")
    check_start()
    print("start equal")
