"""Images a second of a config's model, by batch and image size: no other side.

Batches run in turns. What carries over to other machines is how a rate compares with that of the
first row, not the rates.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from detectron2.config import instantiate
from torch import nn

from benchmarks.step import CONFIG, images
from detrex.config.load import load_config

SIZES = ((480, 640), (800, 1333))


@torch.inference_mode()
def seconds(model: nn.Module, batch: list[dict]) -> float:
    """Time of one inference."""
    start = time.perf_counter()
    model(batch)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_gib(model: nn.Module, batch: list[dict]) -> float:
    """Most memory that the GPU's tensors take in an inference."""
    torch.cuda.reset_peak_memory_stats()
    seconds(model, batch)
    return torch.cuda.max_memory_allocated() / 2**30


def run(
    repeats: int = 3,
    device: str = "cpu",
    config_file: str = str(CONFIG),
    batch_sizes: Sequence[int] = (1, 4),
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[dict]:
    """A row per image size and batch size: medians of ``repeats`` rounds of the seconds of a batch,
    of the images a second, and of their ratio to the first row's; on a GPU also memory.

    Raises:
        InputError: a config that cannot be loaded.
    """
    model = instantiate(load_config(config_file).model).eval().to(device)
    batches = [images(count, size, device) for size in sizes for count in batch_sizes]
    times = [[seconds(model, batch) for batch in batches] for _ in range(repeats + 1)]
    rows = []
    for batch, taken in zip(batches, zip(*times[1:], strict=True), strict=True):  # one to warm up
        count, (height, width) = len(batch), batch[0]["image"].shape[1:]
        what = f"{type(model).__name__}, {count} x {height}x{width}"
        rates = [count / duration for duration in taken]
        ratios = [
            rate * row[0] / len(batches[0]) for rate, row in zip(rates, times[1:], strict=True)
        ]
        row = {"what": what, "batch_s": statistics.median(taken)}
        row |= {"images_per_s": statistics.median(rates), "of_first": statistics.median(ratios)}
        rows.append(row | ({"peak_GiB": peak_gib(model, batch)} if device == "cuda" else {}))
    return rows
