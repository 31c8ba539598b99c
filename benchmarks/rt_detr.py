"""Inference of RT-DETR R50 at 640x640 against the transformers library's, same weights.

Needs ``pip install transformers``. The library starts from normalised pixels in one tensor and ends
with logits and boxes; ours reads uint8 images and ends with detections.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.config import LazyConfig
from torch import nn

from benchmarks.gpu.measures import full_float32
from benchmarks.inference import detect
from benchmarks.step import ROOT, images, interleaved
from detrex.checkpoint import read_checkpoint
from detrex.checkpoint.convert import convert
from detrex.checkpoint.model import build_model
from detrex.utils.errors import InputError

CONFIG = ROOT / "projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py"
GOALS, TOLERANCE = {"cpu": 1.3, "cuda": 1.3}, 1e-3


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """The library's model with weights and norm statistics that tell places apart."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or "norm" in name and name.endswith("weight"):
            tensor.uniform_(0.8, 1.2)
        elif "running_mean" in name or name.endswith("bias"):
            tensor.normal_(0, 0.1)
        elif tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
            tensor *= 0.5 if "bbox" in name else 1.0  # saturated boxes would magnify rounding
    return model.eval()


def published_weights(model: nn.Module, folder: str) -> dict[str, torch.Tensor]:
    """What the library writes of a model, under the names of published files."""
    model.save_pretrained(folder)
    return read_checkpoint(Path(folder) / "model.safetensors")["model"]


def models(device: str) -> dict[str, nn.Module]:
    """The library's model and ours, with the same weights."""
    try:
        from transformers import RTDetrConfig, RTDetrForObjectDetection
    except ImportError as error:
        raise InputError("benchmark rt_detr: pip install transformers") from error
    torch.manual_seed(0)
    baseline = randomised(RTDetrForObjectDetection(RTDetrConfig(num_labels=80)))
    ours = build_model(LazyConfig.load(str(CONFIG))).eval()
    with tempfile.TemporaryDirectory() as folder:
        weights = convert(published_weights(baseline, folder), "rt_detr")
    ours.load_state_dict(weights, strict=False)
    return {"baseline": baseline.to(device), "ours": ours.to(device)}


def row(both: dict[str, nn.Module], count: int, repeats: int) -> dict:
    """One batch size.

    Raises:
        ValueError: the scores differ.
    """
    device = both["ours"].device.type
    batch = images(count, (640, 640), device)
    pixels = torch.stack([x["image"] for x in batch]) / 255.0
    functions = {
        "baseline": torch.inference_mode()(partial(both["baseline"], pixel_values=pixels)),
        "ours": partial(detect, both["ours"], batch),
    }
    with full_float32():
        scores = functions["baseline"]().logits.sigmoid().flatten(1).topk(300).values
        pairs = zip(scores, functions["ours"](), strict=True)
        apart = max((a - b.scores).abs().max().item() for a, b in pairs)
    if apart > TOLERANCE:
        raise ValueError(f"the scores differ by up to {apart}")
    times = interleaved(functions, repeats, device)
    result = {"what": f"inference, RT-DETR R50, {count} x 640x640"}
    result |= {f"{name}_s": taken for name, taken in times.items()}
    ratio = times["baseline"] / times["ours"]
    return result | {"ratio": ratio, "goal": GOALS[device], "max_difference": apart}


def run(repeats: int = 3, device: str = "cpu", batch_sizes: Sequence[int] = (1, 16)) -> list[dict]:
    """A row per batch size: seconds of both sides, their ratio, and the scores' difference."""
    both = models(device)
    return [row(both, count, repeats) for count in batch_sizes]
