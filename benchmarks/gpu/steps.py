"""A training step of Rank-DETR R50 on the device: images a second, memory, waits, idle share.

2 and 16 images of 800x1333, in several steps at once, for the host runs ahead of the GPU. Options
are PyTorch's own: "fp32" multiplies matrices in fp32 and convolves in TF32, "tf32" does both in
TF32, "bf16" runs the forward under autocast.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig

from benchmarks.gpu.checks import VARIANTS, CheckSkipped, Result
from benchmarks.gpu.measures import host_waits, idle_share, peak_mib, wait_for
from benchmarks.step import CONFIG, images, plain, shipped
from benchmarks.step import step as plain_step
from detrex.train import StepOptions, Trainer
from detrex.train.optim import build_optimizer

# Images and steps of a measurement; where the first does not fit the plain side tries the next.
BATCHES = {"cuda": ((2, 8), (16, 2)), "cpu": ((1, 2),)}
SIZE = {"cuda": (800, 1333), "cpu": (64, 96)}
SMALLER = 2  # the part of the batch that is tried when memory does not suffice
ROUNDS = 2
Steps = Callable[[int], object]  # makes this many steps


def measure_step(device: str, variant: str, compiled: bool = False) -> Result:
    """One row for each batch size."""
    cfg = config(device, variant, compiled)
    if compiled and device == "cpu":  # the code is run, without the minutes of a compiler
        if not hasattr(torch.compiler, "set_stance"):
            raise CheckSkipped("torch.compiler.set_stance needs torch 2.6")
        with torch.compiler.set_stance("force_eager"):
            rows = rows_of(cfg, device, variant, compiled)
    else:
        rows = rows_of(cfg, device, variant, compiled)
    return Result("; ".join(map(summary, rows)), rows)


def config(device: str, variant: str, compiled: bool) -> DictConfig:
    """The shipped config; on the CPU with few queries and one layer of each kind."""
    cfg = LazyConfig.load(str(CONFIG))
    cfg.train.compile = compiled
    cfg.train.float32_matmul_precision = "high" if variant == "tf32" else "highest"
    if device == "cpu":
        cfg.model.update(num_queries_one2one=10, num_queries_one2many=20, k_one2many=2)
        cfg.model.transformer.two_stage_num_proposals = 30
        cfg.model.transformer.encoder.num_layers = cfg.model.transformer.decoder.num_layers = 1
    return cfg


def all_rows(device: str) -> list[dict]:
    """Every side, one after the other, so that its memory is its own."""
    return [row for name in VARIANTS for row in measure_step(device, name).rows]


def rows_of(cfg: DictConfig, device: str, variant: str, compiled: bool) -> list[dict]:
    make = plain_steps if variant == "plain" else our_steps
    build = make(cfg, device, torch.bfloat16 if variant == "bf16" else None)
    rows = []
    for count, steps in BATCHES[device]:
        row = {"what": "", "variant": f"{variant}, compiled" if compiled else variant}
        for images_tried in (count, count // SMALLER):
            numbers = measured(build, images_tried, steps, device)
            if numbers:
                break
        height, width = SIZE[device]
        row["what"] = f"step, Rank-DETR R50, {images_tried} of {height}x{width}, {row['variant']}"
        rows.append(row | {"batch": count, "images": images_tried, **numbers})
    return rows


def our_steps(
    cfg: DictConfig, device: str, dtype: torch.dtype | None
) -> Callable[[list[dict]], Steps]:
    """The shipped model and trainer, as train_net.py makes them; from a batch to its steps."""
    model = shipped(cfg, device)
    optimizer = build_optimizer(cfg, model)

    def build(batch: list[dict]) -> Steps:
        trainer = Trainer(model, [batch], optimizer, StepOptions(amp_dtype=dtype, log_period=1000))
        return lambda steps: trainer.train(0, steps)

    return build


def plain_steps(
    cfg: DictConfig, device: str, dtype: torch.dtype | None
) -> Callable[[list[dict]], Steps]:
    """The plain formulation, in fp32."""
    model = plain(cfg, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.optimizer.lr, weight_decay=1e-4)

    def build(batch: list[dict]) -> Steps:
        return lambda steps: [plain_step(model, optimizer, batch) for _ in range(steps)]

    return build


def measured(
    build: Callable[[list[dict]], Steps], count: int, steps: int, device: str
) -> dict[str, object]:
    """The numbers of one batch size; none where memory does not suffice."""
    try:
        make = build(images(count, SIZE[device], device))
        make(2)  # compiles kernels, and lets the optimizer make its state
        seconds = statistics.median(seconds_of(make, steps, device) for _ in range(ROUNDS))
        row = {"step_s": seconds, "images_per_s": count / seconds}
        return row | (on_gpu(make, steps) if device == "cuda" else {})
    except torch.cuda.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()  # what the failed step held is free by now
    return {}


def seconds_of(make: Steps, steps: int, device: str) -> float:
    """Of one step."""
    wait_for(device)
    start = time.perf_counter()
    make(steps)
    wait_for(device)
    return (time.perf_counter() - start) / steps


def on_gpu(make: Steps, steps: int) -> dict:
    """Memory, idle share, and what makes the host wait in a step between two others."""
    waits = host_waits(lambda: make(3))
    waits.subtract(host_waits(lambda: make(2)))
    lines = {line: number for line, number in waits.items() if number}
    numbers = {"peak_mib": peak_mib(lambda: make(1))}
    numbers["gpu_idle"] = idle_share(lambda: make(min(steps, 4)), calls=1)
    return numbers | {"host_waits": sum(lines.values()), "waiting_lines": lines}


def summary(row: dict) -> str:
    """One row in a few words."""
    if "step_s" not in row:
        return f"batch {row['batch']}: out of memory, half of it, too"
    text = f"batch {row['images']}: {row['images_per_s']:.3g} images/s"
    if "peak_mib" in row:
        text += f", {row['peak_mib'] / 1024:.1f} GiB, idle {row['gpu_idle']:.1%}"
        text += f", {row['host_waits']} waits"
    return text
