"""RT-DETR's efficient hybrid encoder (Zhao et al., CVPR 2024, section 4.2, figures 3 and 4).

Attention among the tokens of the coarsest level only (AIFI), then convolutions that fuse the levels
top-down and bottom-up (CCFF).

Legend: B images, C channels; levels are (B, C, H, W), finest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn

from detrex.layers.folded_norm import folded
from detrex.modeling.transformer import DenseEncoder, DenseMemory, as_tokens


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    norm: str = "BN",
    activation: Callable[[Tensor], Tensor] | None = F.silu,
    groups: int = 1,
) -> Conv2d:
    """Convolution, norm (detectron2's name of it), activation; sizes are ceil(size / stride)."""
    norm_layer = get_norm(norm, outputs)
    return Conv2d(
        inputs,
        outputs,
        kernel,
        stride,
        kernel // 2,
        groups=groups,
        bias=False,
        norm=norm_layer,
        activation=activation,
    )


class RepConv(nn.Module):
    """3x3 plus 1x1 convolution, each with a norm, then SiLU (RepVGG, Ding et al., CVPR 2021).

    At inference the two are one 3x3 convolution.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, channels, 3, norm=norm, activation=None)
        self.conv2 = conv_norm(channels, channels, 1, norm=norm, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.silu(self.conv1(x) + self.conv2(x))
        (wide, shift), (narrow, more) = folded(self.conv1), folded(self.conv2)
        return F.silu(F.conv2d(x, wide + F.pad(narrow, (1, 1, 1, 1)), shift + more, padding=1))


class CSPLayer(nn.Module):
    """RepVGG blocks beside a shortcut; ``width``: channels of the blocks, which a convolution at
    the end turns into ``outputs`` if they differ."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(inputs, width, norm=norm)
        self.conv2 = conv_norm(inputs, width, norm=norm)
        self.bottlenecks = nn.Sequential(*(RepConv(width, norm) for _ in range(blocks)))
        same = width == outputs
        self.conv3 = nn.Identity() if same else conv_norm(width, outputs, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))


class Fusion(CSPLayer):
    """Two levels of equal size, concatenated, to one."""

    def __init__(self, channels: int, width: int, blocks: int, norm: str) -> None:
        super().__init__(2 * channels, channels, width, blocks, norm)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(torch.cat([x, y], 1))


class HybridEncoder(nn.Module):
    """Levels of a backbone to as many levels of ``out_channels``.

    Args:
        input_shapes: names to shapes of the backbone's levels.
        in_features: the levels that are used, finest first; each is half as large as the last.
        embed_dim: channels inside.
        feedforward_dim: of the attention layer.
        expansion: width of the blocks that fuse two levels, relative to ``embed_dim``.
        blocks: number of those blocks.
        out_channels: what the decoder reads.
        norm: of all convolutions, a batch norm that detectron2's ``get_norm`` knows by name.

    There is no padding mask: images of one size are expected in training, and at inference the
    detector gives images of different sizes one by one.
    """

    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec],
        in_features: Sequence[str],
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        expansion: float = 1.0,
        out_channels: int = 256,
        norm: str = "BN",
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.in_features = list(in_features)
        plain = partial(conv_norm, norm=norm, activation=None)
        gaps = range(len(self.in_features) - 1)
        channels = [input_shapes[name].channels for name in self.in_features]
        self.input_proj = nn.ModuleList(plain(c, embed_dim) for c in channels)
        self.aifi = DenseEncoder(
            embed_dim=embed_dim,
            attn_dropout=0.0,
            feedforward_dim=feedforward_dim,
            ffn_dropout=0.0,
            activation=nn.GELU(),
            num_layers=1,
        )
        # Top-down modules start at the coarsest level, bottom-up ones at the finest.
        dim, width = embed_dim, self.width(embed_dim, expansion)
        self.lateral_convs = nn.ModuleList(self.lateral(dim, norm) for _ in gaps)
        self.fpn_blocks = nn.ModuleList(self.fusion(dim, width, blocks, norm) for _ in gaps)
        self.downsample_convs = nn.ModuleList(self.shrink(dim, norm) for _ in gaps)
        self.pan_blocks = nn.ModuleList(self.fusion(dim, width, blocks, norm) for _ in gaps)
        self.output_proj = nn.ModuleList(plain(embed_dim, out_channels) for _ in channels)

    def width(self, embed_dim: int, expansion: float) -> int:
        """Channels of the blocks that fuse two levels."""
        return round(embed_dim * expansion)

    def lateral(self, dim: int, norm: str) -> nn.Module:
        """What a level passes before it is enlarged for the next finer one."""
        return conv_norm(dim, dim, norm=norm)

    def shrink(self, dim: int, norm: str) -> nn.Module:
        """What halves a level for the next coarser one."""
        return conv_norm(dim, dim, 3, 2, norm=norm)

    def fusion(self, dim: int, width: int, blocks: int, norm: str) -> nn.Module:
        """What joins two levels of equal size."""
        return Fusion(dim, width, blocks, norm)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Backbone features by name to levels (B, out_channels, H, W), finest first."""
        features = (inputs[name] for name in self.in_features)
        levels = [conv(x) for conv, x in zip(self.input_proj, features, strict=True)]
        *finer, coarse = levels
        levels = self.bottom_up(self.top_down(finer, self.attend(coarse)))
        return tuple(conv(x) for conv, x in zip(self.output_proj, levels, strict=True))

    def attend(self, level: Tensor) -> Tensor:
        """Attention among all tokens of a level."""
        size = level.shape[-2:]
        tokens = as_tokens(level)
        position = sine_grid(*size, tokens.shape[-1], tokens.device).to(tokens.dtype)
        tokens = self.aifi(DenseMemory(tokens, position.expand_as(tokens), None))
        return tokens.transpose(1, 2).unflatten(2, size)

    def top_down(self, finer: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """Every level takes in the next coarser one; finest first."""
        levels = [coarse]
        stages = zip(reversed(finer), self.lateral_convs, self.fpn_blocks, strict=True)
        for level, lateral, fuse in stages:
            levels[0] = lateral(levels[0])
            larger = F.interpolate(levels[0], size=level.shape[-2:])
            levels.insert(0, fuse(larger, level))
        return levels

    def bottom_up(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Every level takes in the next finer one; finest first."""
        fused = [levels[0]]
        stages = zip(levels[1:], self.downsample_convs, self.pan_blocks, strict=True)
        for level, shrink, fuse in stages:
            fused.append(fuse(shrink(fused[-1]), level))
        return fused


def sine_grid(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Sines and cosines of row and column of every pixel, (height * width, dim): a quarter of the
    channels each, in the order sin(row), cos(row), sin(column), cos(column)."""
    frequency = 10000.0 ** -(torch.arange(dim // 4, device=device) / (dim // 4))
    rows, columns = (
        torch.arange(side, device=device)[:, None] * frequency for side in (height, width)
    )
    rows, columns = (torch.cat([angle.sin(), angle.cos()], -1) for angle in (rows, columns))
    grid = (rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1))
    return torch.cat(grid, -1).flatten(0, 1)
