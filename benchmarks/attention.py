"""Multi-scale deformable attention: 2 images of 800x1066, 8 heads x 32, 4 levels x 4 points."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.baseline.attention import attention as plain
from detrex.layers import multi_scale_deformable_attention as ours

SHAPES = [(100, 134), (50, 67), (25, 34), (13, 17)]
TOKENS = sum(h * w for h, w in SHAPES)
QUERIES = {"encoder": TOKENS, "decoder": 1800}
GOALS = {"encoder": 8, "decoder": 5}  # forward + backward on the CPU
MEMORY_GOAL = {"goal": 12}
HEADS, DIM, POINTS, SPREAD = 8, 32, 4, 4.0  # offsets spread by 4 pixels of their level
SIDES = {"baseline": plain, "ours": ours}
ROOT = Path(__file__).parents[1]


def inputs(kind: str, device: str, batch: int = 2) -> list:
    """value, shapes, locations, weights: encoder queries look around their own pixel, decoder
    queries around random places."""
    generator = torch.Generator().manual_seed(0)
    queries = QUERIES[kind]
    samples = (batch, queries, HEADS, len(SHAPES), POINTS)
    centers = torch.rand(batch, queries, 1, 1, 1, 2, generator=generator)
    if kind == "encoder":
        pixels = [torch.cartesian_prod(torch.arange(h), torch.arange(w)) for h, w in SHAPES]
        sizes = [torch.tensor(shape) for shape in SHAPES]
        grids = [((p + 0.5) / size).flip(-1) for p, size in zip(pixels, sizes, strict=True)]
        centers = torch.cat(grids)[None, :, None, None, None]
    offsets = SPREAD * torch.randn(*samples, 2, generator=generator)
    offsets /= torch.tensor(SHAPES).flip(-1)[:, None]
    weights = torch.rand(samples, generator=generator).flatten(-2).softmax(-1).view(samples)
    value = torch.randn(batch, TOKENS, HEADS, DIM, generator=generator)
    value, locations, weights = (
        x.to(device).requires_grad_() for x in (value, (centers + offsets).contiguous(), weights)
    )
    return [value, SHAPES, locations, weights]


def seconds(function, data: list, grad: Tensor) -> tuple[float, float]:
    """Time of a forward, and of a forward and backward."""
    leaves = [data[0], *data[2:]]
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


def time_rows(kind: str, repeats: int, device: str) -> list[dict]:
    """Medians of both sides, run in turns after one unmeasured run each."""
    data = inputs(kind, device)
    grad = torch.randn(2, QUERIES[kind], HEADS * DIM).to(device)
    sides = {"baseline": (plain, data), "": (ours, data)}
    if device == "cuda":
        half = data[0].detach().bfloat16().requires_grad_()
        sides[", bf16 values"] = (ours, [half, *data[1:]])
    found: dict = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, (function, arguments) in sides.items():
            pair = seconds(function, arguments, grad)
            found[name] += [pair] if repeat else []
    median = {
        name: [statistics.median(t) for t in zip(*found[name], strict=True)] for name in found
    }
    base = median.pop("baseline")
    return [
        {"what": f"attention, {kind}, {what}{name}", "baseline_s": base[i], "ours_s": mine[i]}
        | {"ratio": base[i] / mine[i]}
        | ({"goal": GOALS[kind]} if i and device == "cpu" else {})
        for name, mine in median.items()
        for i, what in enumerate(("forward", "forward + backward"))
    ]


def memory_row(kind: str) -> dict:
    """Peak memory of a forward and backward beyond the inputs, each side in a fresh process."""
    sides = {}
    for side in SIDES:
        command = [sys.executable, "-m", __name__, kind, side]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        sides[f"{side}_mib"] = float(done.stdout)
    ratio = sides["baseline_mib"] / sides["ours_mib"]
    what = f"attention, {kind}, peak extra memory"
    return {"what": what, **sides, "ratio": ratio} | (MEMORY_GOAL if kind == "encoder" else {})


def peak_mib(kind: str, side: str) -> float:
    """Growth of this process's peak resident memory (Linux) by one forward and backward."""
    torch.set_num_threads(1)
    ours(
        torch.zeros(1, 1, 1, 1), [(1, 1)], torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 1)
    )
    data, grad = inputs(kind, "cpu"), torch.ones(2, QUERIES[kind], HEADS * DIM)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = resident_peak()
    seconds(SIDES[side], data, grad)
    return (resident_peak() - before) / 1024


def resident_peak() -> int:
    """Kibibytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def run(repeats: int = 5, device: str = "cpu") -> list[dict]:
    """Rows of times, and on the CPU of memory; both sides and their ratio."""
    rows = [row for kind in QUERIES for row in time_rows(kind, repeats, device)]
    measurable = device == "cpu" and Path("/proc/self/clear_refs").exists()
    return rows + ([memory_row(kind) for kind in QUERIES] if measurable else [])


if __name__ == "__main__":
    print(peak_mib(*sys.argv[1:]))
