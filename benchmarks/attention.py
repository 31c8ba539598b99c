"""Multi-scale deformable attention: 2 images of 800x1066, 8 heads x 32, 4 levels x 4 points.

From the raw offsets and logits to the output, as a layer needs it. On a GPU also in bf16, and
against the original CUDA kernel where the package torch-ms-deform-attn is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.baseline.attention import attention_from_logits as plain
from benchmarks.baseline.attention import sampling_locations
from detrex.layers.ms_deform_attn import deformable_attention as ours

SHAPES = [(100, 134), (50, 67), (25, 34), (13, 17)]
TOKENS = sum(h * w for h, w in SHAPES)
QUERIES = {"encoder": TOKENS, "decoder": 1800}
GOALS = {"encoder": 8, "decoder": 5}  # forward + backward on the CPU
MEMORY_GOAL = 12
HEADS, DIM, POINTS = 8, 32, 4
SIDES = {"baseline": plain, "ours": ours}
ROOT = Path(__file__).parents[1]


def inputs(kind: str, device: str, batch: int = 2) -> list:
    """value, shapes, offsets, logits, reference: encoder queries look around their own pixel with
    a spread of 4 pixels, decoder queries around random boxes."""
    generator = torch.Generator().manual_seed(0)
    queries, levels = QUERIES[kind], len(SHAPES)
    samples = (batch, queries, HEADS, levels, POINTS)
    reference = torch.rand(batch, queries, 1, 4, generator=generator)
    reference[..., 2:] = 0.05 + 0.3 * reference[..., 2:]
    if kind == "encoder":
        pixels = [torch.cartesian_prod(torch.arange(h), torch.arange(w)) for h, w in SHAPES]
        sizes = [torch.tensor(shape) for shape in SHAPES]
        grids = [((p + 0.5) / size).flip(-1) for p, size in zip(pixels, sizes, strict=True)]
        reference = torch.cat(grids)[None, :, None].expand(batch, -1, 1, 2)
    offsets = 4 * torch.randn(*samples, 2, generator=generator)
    logits = torch.randn(samples, generator=generator)
    value = torch.randn(batch, TOKENS, HEADS, DIM, generator=generator)
    leaves = [x.to(device).requires_grad_() for x in (value, offsets, logits)]
    return [leaves[0], SHAPES, *leaves[1:], reference.expand(-1, -1, levels, -1).to(device)]


def original(
    value: Tensor, shapes: list, offsets: Tensor, logits: Tensor, reference: Tensor
) -> Tensor:
    """The CUDA kernel of Deformable DETR (2020), as torch-ms-deform-attn builds it."""
    from torch_ms_deform_attn import ms_deform_attn

    locations, weights = sampling_locations(shapes, offsets, logits, reference)
    sizes = torch.tensor(shapes, device=value.device)
    first = sizes.prod(1).cumsum(0) - sizes.prod(1)
    return ms_deform_attn(value, sizes, first, locations.to(value.dtype), weights)


def seconds(function: Callable, data: list, grad: Tensor) -> tuple[float, float]:
    """Time of a forward, and of a forward and backward."""
    leaves = [data[0], *data[2:4]]
    start = now(grad)
    out = function(*data)
    middle = now(grad)
    torch.autograd.grad(out, leaves, grad.to(out.dtype))
    return middle - start, now(grad) - start


def now(tensor: Tensor) -> float:
    """CPU time of this thread, which others on the machine disturb least; on a GPU, the clock."""
    if not tensor.is_cuda:
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def gpu_sides(data: list) -> dict:
    """What else is measured on a GPU: name -> (function, arguments)."""
    half = [x.detach().bfloat16().requires_grad_() for x in (data[0], *data[2:4])]
    sides = {", bf16": (ours, [half[0], data[1], *half[1:], data[4]])}
    if importlib.util.find_spec("torch_ms_deform_attn"):
        sides[", original CUDA kernel"] = (original, data)
    return sides


def time_rows(kind: str, repeats: int, device: str) -> list[dict]:
    """Medians of all sides, run in turns after one unmeasured run each."""
    data = inputs(kind, device)
    grad = torch.randn(2, QUERIES[kind], HEADS * DIM).to(device)
    sides = {"baseline": (plain, data), "": (ours, data)}
    sides |= gpu_sides(data) if device == "cuda" else {}
    times: dict = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, (function, arguments) in sides.items():
            pair = seconds(function, arguments, grad)
            times[name] += [pair] if repeat else []
    median = {
        name: [statistics.median(t) for t in zip(*pairs, strict=True)]
        for name, pairs in times.items()
    }
    base = median.pop("baseline")
    return [
        {"what": f"attention, {kind}, {what}{name}", "baseline_s": base[i], "ours_s": mine[i]}
        | {"ratio": base[i] / mine[i]}
        | ({"goal": GOALS[kind]} if i and device == "cpu" else {})
        for name, mine in median.items()
        for i, what in enumerate(("forward", "forward + backward"))
    ]


def memory_rows(kind: str, device: str) -> list[dict]:
    """Peak memory of a forward and backward beyond the inputs, on the CPU each side in a fresh
    process, for its peak never falls again; and beyond the results too (output and gradients),
    which both sides have to hand back."""
    measure = peak_of_child if device == "cpu" else peak_mib
    peaks = [measure(kind, side, device) for side in SIDES]
    rows = []
    for what, less in (("extra", 0.0), ("working", result_mib(kind))):
        base, mine = (mib - less for mib in peaks)
        row = {"what": f"attention, {kind}, peak {what} memory", "baseline_mib": base}
        rows.append(row | {"ours_mib": mine, "ratio": base / mine})
    rows[0]["goal"] = MEMORY_GOAL
    return rows


def peak_of_child(kind: str, side: str, device: str) -> float:
    """``peak_mib`` in a process of its own."""
    command = [sys.executable, "-m", __name__, kind, side, device]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def result_mib(kind: str) -> float:
    """Output and the gradients of value, offsets and logits, in fp32."""
    samples = len(SHAPES) * POINTS
    numbers = TOKENS * DIM + QUERIES[kind] * (DIM + 3 * samples)
    return 2 * HEADS * numbers * 4 / 2**20


def peak_mib(kind: str, side: str, device: str) -> float:
    """Growth of peak memory by one forward and backward: of the GPU's, or of what this process
    has resident (Linux)."""
    one = torch.zeros(1, 1, 1, 1, 1, 2, device=device)
    SIDES[side](one[..., 0, 0], [(1, 1)], one, one[..., 0], one[0, 0])  # loads libraries
    data = inputs(kind, device)
    grad = torch.ones(2, QUERIES[kind], HEADS * DIM, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds(SIDES[side], data, grad)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = resident_peak()
    seconds(SIDES[side], data, grad)
    return (resident_peak() - before) / 1024


def resident_peak() -> int:
    """Kibibytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def run(repeats: int = 5, device: str = "cpu") -> list[dict]:
    """Rows of times and of memory; both sides and their ratio."""
    rows = [row for kind in QUERIES for row in time_rows(kind, repeats, device)]
    if device == "cuda" or Path("/proc/self/clear_refs").exists():
        rows += [row for kind in QUERIES for row in memory_rows(kind, device)]
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(peak_mib(*sys.argv[1:]))
