"""What each variant of a detector costs at inference: parameters, FLOPs, latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from detectron2.config import instantiate
from tabulate import tabulate
from torch import nn

from detrex.inspect.analysis import flops, one_image, parameters
from detrex.utils.device import resolve_device, synchronize

from .jobs import load_variant
from .plan import Plan

PRESET = "rank-overhead"
NOTE = (
    "FLOPs as fvcore counts them (a multiplication and its addition are one). Latency: median of "
    "the ratios to the first row, variants in turns; batch 1, {device}."
)


def overhead_table(plan: Plan, size: tuple[int, int] = (800, 1333), repeats: int = 3) -> str:
    """Measure every variant and return a Markdown table.

    Args:
        plan: its variants get random weights; latencies are divided by the first one's.
        size: height and width of the image.
        repeats: measured rounds.

    Raises:
        InputError: a variant's config cannot be loaded.
    """
    device = resolve_device("auto")
    batch = one_image(*size)
    models = [
        instantiate(load_variant(variant).model).eval().to(device) for variant in plan.variants
    ]
    ratios = latency_ratios(models, batch, repeats)
    rows = []
    for variant, model, ratio in zip(plan.variants, models, ratios, strict=True):
        counts = [f"{count / 1e6:.2f}" for count in parameters(model)]
        operations = f"{flops(model, batch) / 1e9:.2f}"
        rows.append([variant.name, *counts, operations, f"{ratio:.3f}", variant.published])
    head = ["variant", "M parameters, training", "M parameters, inference"]
    head += [f"GFLOPs, {size[0]}x{size[1]}", "latency ratio", "published"]
    table = tabulate(rows, head, "github", disable_numparse=True)
    return f"## {plan.title}\n\n{plan.source}\n\n{table}\n\n{NOTE.format(device=device)}\n"


def latency_ratios(models: Sequence[nn.Module], batch: list[dict], repeats: int) -> list[float]:
    """Median ratio of each model's time to the first one's, measured in turns after one round of
    warm-up."""
    rounds = [[_seconds(model, batch) for model in models] for _ in range(repeats + 1)][1:]
    return [statistics.median(times[i] / times[0] for times in rounds) for i in range(len(models))]


@torch.no_grad()
def _seconds(model: nn.Module, batch: list[dict]) -> float:
    start = time.perf_counter()
    model(batch)
    synchronize(next(model.parameters()).device.type)
    return time.perf_counter() - start
