"""Questions about the process group that also have an answer without one."""

from __future__ import annotations

import torch
import torch.distributed as dist


def is_dist_avail_and_initialized() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if is_dist_avail_and_initialized() else 1


def mean_over_ranks(value: float | torch.Tensor, device: torch.device) -> torch.Tensor:
    """The mean of a number over all processes, as a scalar tensor; every rank must call it."""
    if isinstance(value, torch.Tensor):
        mean = value.detach().clone()
    else:
        mean = torch.full((), float(value), device=device)  # torch.tensor waits for the device
    if is_dist_avail_and_initialized():
        dist.all_reduce(mean)
        mean /= get_world_size()
    return mean
