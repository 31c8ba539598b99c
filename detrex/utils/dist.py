"""The process group's size and means over it, which also work without one."""

from __future__ import annotations

import torch
import torch.distributed as dist


def is_dist_avail_and_initialized() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes, 1 without a process group."""
    return dist.get_world_size() if is_dist_avail_and_initialized() else 1


def mean_over_ranks(value: float | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the mean of a number over all processes, a scalar tensor; every rank must call it."""
    if isinstance(value, torch.Tensor):
        mean = value.detach().clone()
    else:
        mean = torch.full((), float(value), device=device)  # torch.tensor would wait for the device
    if is_dist_avail_and_initialized():
        dist.all_reduce(mean)
        mean /= get_world_size()
    return mean
