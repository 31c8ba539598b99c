"""The neck: projects the backbone's levels to one width and adds coarser ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments


class _ConvNorm(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None, act: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = copy.deepcopy(norm)
        self.activation = copy.deepcopy(act)
        nn.init.xavier_uniform_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class ChannelMapper(nn.Module):
    """A convolution per input level, then stride-2 convolutions up to ``num_outs`` levels.

    ``input_shapes`` maps names to shapes; ``in_features`` picks and orders them. The first extra
    level comes from the last input, each further one from the level before it.

    Raises:
        ValueError: if an in_feature is unknown or ``num_outs`` is below the number of inputs.
    """

    @keep_arguments
    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec],
        in_features: Sequence[str],
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = True,
        groups: int = 1,
        dilation: int = 1,
        norm_layer: nn.Module | None = None,
        activation: nn.Module | None = None,
        num_outs: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__()
        unknown = [name for name in in_features if name not in input_shapes]
        if unknown:
            raise ValueError(f"neck: in_features {unknown} are not in {sorted(input_shapes)}")
        num_outs = len(in_features) if num_outs is None else num_outs
        if num_outs < len(in_features):
            raise ValueError(f"neck: num_outs {num_outs} is below the {len(in_features)} inputs")
        self.in_features, self.num_outs = list(in_features), num_outs
        channels = [input_shapes[name].channels for name in in_features]
        options = dict(bias=bias, groups=groups, dilation=dilation)

        def block(in_channels: int, kernel: int, step: int) -> _ConvNorm:
            padding = (kernel - 1) // 2 * dilation
            conv = nn.Conv2d(in_channels, out_channels, kernel, step, padding, **options)
            return _ConvNorm(conv, norm_layer, activation)

        self.convs = nn.ModuleList(block(c, kernel_size, stride) for c in channels)
        extra = [channels[-1]] + [out_channels] * (num_outs - len(channels) - 1)
        self.extra_convs = nn.ModuleList(block(c, 3, 2) for c in extra[: num_outs - len(channels)])

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Backbone features by name to levels (B, out_channels, H, W), finest first."""
        features = [inputs[name] for name in self.in_features]
        levels = [conv(x) for conv, x in zip(self.convs, features, strict=True)]
        x = features[-1]
        for conv in self.extra_convs:
            x = conv(x)
            levels.append(x)
        return tuple(levels)


def with_channel_mapper(backbone: object, channels: Mapping[str, int], width: int = 256) -> dict:
    """The configs of a backbone and of its neck: ``dict(backbone=..., neck=...)``.

    ``channels``: names and widths of the backbone's levels, finest first. The neck projects them to
    ``width`` and adds a coarser one.
    """
    neck = L(ChannelMapper)(
        input_shapes={name: ShapeSpec(channels=count) for name, count in channels.items()},
        in_features=list(channels),
        out_channels=width,
        num_outs=len(channels) + 1,
        kernel_size=1,
        norm_layer=L(nn.GroupNorm)(num_groups=32, num_channels=width),
    )
    return dict(backbone=backbone, neck=neck)
