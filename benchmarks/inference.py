"""Inference of Rank-DETR R50 (300 queries) against the plain formulation, scores equal.

CPU: 1 image of 480x640 and of 800x1066. CUDA: 1 and 16 images of 800x1333, also in bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from unittest.mock import patch

import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig
from torch import nn

from benchmarks.gpu.measures import full_float32, idle_share
from benchmarks.step import CONFIG, Step, images, interleaved, plain, shipped
from detrex.layers import folded_norm

CASES = {"cpu": ((1, (480, 640)), (1, (800, 1066))), "cuda": ((1, (800, 1333)), (16, (800, 1333)))}
GOALS = {("cpu", (800, 1066)): 2.0}
TOLERANCE = {"cpu": 1e-6, "cuda": 1e-4}  # the two sides round differently


@torch.inference_mode()
def detect(model: nn.Module, batch: list[dict], dtype: torch.dtype | None = None) -> list:
    device = batch[0]["image"].device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        return [result["instances"] for result in model(batch)]


def difference(baseline: Step, ours: Step) -> float:
    """Largest difference of the scores, best first."""
    pairs = zip(baseline(), ours(), strict=True)
    return max((a.scores - b.scores).abs().max().item() for a, b in pairs)


def case_rows(models: dict[str, nn.Module], count: int, size: tuple, repeats: int) -> list[dict]:
    """Each side in fp32 and, on a GPU, ours in bf16.

    Raises ValueError when the scores of the fp32 sides differ.
    """
    device = models["fp32"].device.type
    batch = images(count, size, device)
    functions = {name: partial(detect, model, batch) for name, model in models.items()}
    # Other sums in the backbone would choose other proposals where two are nearly equal.
    with full_float32(), patch.object(folded_norm, "_at_inference", return_value=False):
        apart = difference(functions["baseline"], functions["fp32"])
    if apart > TOLERANCE[device]:
        raise ValueError(f"the scores differ by up to {apart}")
    if device == "cuda":
        functions["bf16"] = partial(detect, models["fp32"], batch, torch.bfloat16)
    times = interleaved(functions, repeats, device)
    base, rows = times.pop("baseline"), []
    for name, taken in times.items():
        what = f"inference, Rank-DETR R50, {count} x {size[0]}x{size[1]}, {name}"
        row = {"what": what, "baseline_s": base, "ours_s": taken, "ratio": base / taken}
        row |= {"images_per_s": count / taken}
        row |= {"max_difference": apart} if name == "fp32" else {}
        row |= {"gpu_idle": idle_share(functions[name])} if device == "cuda" else {}
        rows.append(row | ({"goal": GOALS[device, size]} if (device, size) in GOALS else {}))
    return rows


def run(repeats: int = 3, device: str = "cpu") -> list[dict]:
    """Rows per image size: seconds of both sides, their ratio, and the scores' difference."""
    return measure(LazyConfig.load(str(CONFIG)), CASES[device], repeats, device)


def measure(
    cfg: DictConfig, cases: Sequence[tuple[int, tuple[int, int]]], repeats: int, device: str
) -> list[dict]:
    """The rows of a config's model; a case is a number of images and their height and width."""
    models = {"baseline": plain(cfg, device).eval(), "fp32": shipped(cfg, device).eval()}
    return [row for count, size in cases for row in case_rows(models, count, size, repeats)]
