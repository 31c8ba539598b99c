"""A model of which each process holds a share: of weights, gradients and the optimizer's state.

It is PyTorch's ``fully_shard`` (FSDP2; Zhao et al. 2023, arXiv:2304.11277). A layer's weights are
whole while it computes, in the forward and again in the backward pass; its gradients are averaged
over the processes, as by DistributedDataParallel.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from detrex.layers import TransformerLayerSequence
from detrex.modeling.ema import named_weights
from detrex.utils.errors import InputError
from detrex.utils.shares import is_share, share_of

logger = logging.getLogger(__name__)
_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_LARGE = 0.05  # of the model's weights


def shard(model: nn.Module) -> None:
    """Leave this process its share of the weights, of the main process's; names stay.

    The parameters are new ones: build the optimizer afterwards. Every process must call this.

    Raises:
        InputError: this PyTorch cannot do it.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise InputError("train.sharding=full needs PyTorch 2.6 or newer") from error
    for _, tensor in named_weights(model):
        dist.broadcast(tensor.detach(), src=0)
    model.to(memory_format=torch.contiguous_format)  # others cannot be divided
    mesh = dist.init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    layers = shard_units(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    fully_shard.state(model)._lazy_init()  # else the first layer that runs is taken for the model
    model.register_load_state_dict_pre_hook(_divide)
    logger.info("weights in %d shares, of %d layers and the rest", mesh.size(), len(layers))


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a share of the model's weights."""
    return any(map(is_share, model.parameters()))


def shard_units(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose weights are gathered together: the layers of every transformer, and
    what stands in the backbone's lists, a stage or, if that is a large part of the model, a block.
    """
    limit = _LARGE * _size(model)
    stacks = [m for m in model.modules() if isinstance(m, TransformerLayerSequence)]
    units = [layer for stack in stacks for layer in stack.layers]
    return [*dict.fromkeys([*_units(getattr(model, "backbone", nn.ModuleList()), limit), *units])]


def _units(module: nn.Module, limit: float) -> Iterator[nn.Module]:
    for element in _elements(module):
        smaller = [*_units(element, limit)] if _size(element) > limit else []
        yield from smaller or [element]


def _elements(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost elements of lists that have weights and modules of their own."""
    for child in module.children():
        if isinstance(child, _LISTS) or not isinstance(module, _LISTS):
            yield from _elements(child)
        elif any(True for _ in child.children()) and _size(child):
            yield child


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _divide(model: nn.Module, state: dict, *_: object) -> None:
    """Let a sharded model load whole tensors."""
    for name, tensor in model.state_dict().items():
        if name in state and not is_share(state[name]):
            state[name] = share_of(state[name], tensor)


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights of a sharded model and may run it alone, without
    gradients; do not change them. Every process must enter and leave."""
    units = [m for m in model.modules() if hasattr(m, "unshard")]
    layers = [m for m in units if m is not model]
    for layer in layers:
        layer.set_reshard_after_forward(False, recurse=False)
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        for layer in layers:
            layer.set_reshard_after_forward(True, recurse=False)
        for unit in units:
            unit.reshard()
