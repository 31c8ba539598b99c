"""Tensors of which each process holds a share of the rows (torch's ``DTensor``, ``Shard(0)``)."""

from __future__ import annotations

import torch
from torch import Tensor


def is_share(value: object) -> bool:
    """Whether a value is a tensor of which this process holds a share."""
    return hasattr(value, "full_tensor")


def share_of(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's share of a whole tensor, divided as ``like`` is; without a share in
    ``like``, the tensor itself.

    Args:
        value: the same in every process.
        like: of the same shape.
    """
    if not is_share(like):
        return value
    share = torch.empty_like(like, dtype=value.dtype)
    rows = -(-len(value) // like.device_mesh.size())
    first = rows * like.device_mesh.get_local_rank()
    with torch.no_grad():
        share.to_local().copy_(value[first : first + rows])
    return share


def whole(value: Tensor) -> Tensor:
    """Return a tensor with the rows of all processes; every process must call this."""
    return value.full_tensor() if is_share(value) else value


def whole_state(state: object, here: bool = True) -> object:
    """Return nested dicts and lists with whole tensors on the CPU for shares, other values as they
    are; every process must call this. A tensor under two names stays one.

    Args:
        state: its shares stand in the same order in every process.
        here: whether this process wants them; if not, None stands for them.
    """
    return _gather(state, here, {})


def _gather(value: object, here: bool, gathered: dict[int, Tensor | None]) -> object:
    if isinstance(value, dict):
        return {key: _gather(entry, here, gathered) for key, entry in value.items()}
    if isinstance(value, list):
        return [_gather(entry, here, gathered) for entry in value]
    if not is_share(value):
        return value
    if id(value) not in gathered:
        tensor = value.detach().full_tensor()
        gathered[id(value)] = tensor.cpu() if here else None
    return gathered[id(value)]
