"""What a piece of code makes a device do: its idle time, the host's waits, its memory."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

SYNCHRONISES = "called a synchronizing CUDA operation"  # PyTorch's words


def wait_for(device: str) -> None:
    """Until the device has done everything; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products do not round to TF32."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def idle_share(function: Callable[[], object], calls: int = 3) -> float:
    """Share of the time between the first and the last kernel of some calls without any kernel.

    Raises:
        RuntimeError: the profiler saw no kernel.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            function()
        torch.cuda.synchronize()
    kernels = [
        event.time_range
        for event in profile.events()
        # A named range of the program covers the gaps between its kernels.
        if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
    ]
    if not kernels:
        raise RuntimeError("the profiler saw no kernel: it may not be allowed to read the GPU")
    return uncovered([(kernel.start, kernel.end) for kernel in kernels])


def uncovered(spans: list[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that no span covers."""
    spans = sorted(spans)
    first, reached, gaps = spans[0][0], spans[0][0], 0.0
    for start, end in spans:
        gaps += max(start - reached, 0.0)
        reached = max(reached, end)
    return gaps / (reached - first)


def host_waits(function: Callable[[], object]) -> Counter[str]:
    """How often a call makes the host wait for the GPU, by the line that does: "file:line"."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as messages:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return waits_of(messages)


def waits_of(messages: list[warnings.WarningMessage]) -> Counter[str]:
    """Those of PyTorch's warnings that tell of a wait."""
    return Counter(
        f"{os.path.relpath(message.filename)}:{message.lineno}"
        for message in messages
        if SYNCHRONISES in str(message.message)
    )


def peak_mib(function: Callable[[], object]) -> float:
    """Most memory that the GPU's tensors take during a call, with those that are there already."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20
