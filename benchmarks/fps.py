"""Images a second of a config's model, by batch and image size: no other side, no ratio.

The times are this machine's; the batches' order of speed carries over, the figures do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from detectron2.config import instantiate
from torch import nn

from benchmarks.step import CONFIG, images
from detrex.engine.settings import load_config

SIZES = ((480, 640), (800, 1333))


def seconds(model: nn.Module, batch: list[dict], repeats: int) -> float:
    """Median time of an inference after one that is not measured."""
    taken = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(batch)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def run(
    repeats: int = 3,
    device: str = "cpu",
    config_file: str = str(CONFIG),
    batch_sizes: Sequence[int] = (1, 4),
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[dict]:
    """A row per image size and batch size: seconds of a batch, images a second, on a GPU memory.

    Raises:
        InputError: a config that cannot be loaded.
    """
    model = instantiate(load_config(config_file).model).eval().to(device)
    found = []
    for size in sizes:
        for count in batch_sizes:
            taken = seconds(model, images(count, size, device), repeats)
            what = f"{type(model).__name__}, {count} x {size[0]}x{size[1]}"
            row = {"what": what, "batch_s": taken, "images_per_s": count / taken}
            if device == "cuda":
                row["peak_GiB"] = torch.cuda.max_memory_allocated() / 2**30
                torch.cuda.reset_peak_memory_stats()
            found.append(row)
    return found
