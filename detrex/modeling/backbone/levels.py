"""The levels of a backbone of stages: names, norms, shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detectron2.modeling.backbone import Backbone
from torch import nn

from detrex.utils.errors import InputError


def add_levels(
    backbone: Backbone,
    norm: Callable[[int], nn.Module],
    dims: Sequence[int],
    out_indices: Sequence[int],
) -> None:
    """Give a backbone what its ``output_shape`` reads, and ``norm{i}`` for each level ``p{i}``.

    Args:
        backbone: its stage i has stride 4 * 2^i.
        norm: builds the norm of a number of channels.
        dims: channels of the stages.
        out_indices: the levels.

    Raises:
        InputError: ``out_indices`` beyond the stages.
    """
    if not set(out_indices) <= set(range(len(dims))):
        raise InputError(
            f"backbone.out_indices={list(out_indices)}: this backbone's levels are 0 to"
            f" {len(dims) - 1}"
        )
    for i in out_indices:
        backbone.add_module(f"norm{i}", norm(dims[i]))
    backbone._out_features = [f"p{i}" for i in out_indices]
    backbone._out_feature_channels = {f"p{i}": dims[i] for i in out_indices}
    backbone._out_feature_strides = {f"p{i}": 4 << i for i in out_indices}
