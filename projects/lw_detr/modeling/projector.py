"""LW-DETR's projector: outputs of several ViT blocks to the levels that the decoder reads.

Source: LW-DETR (Chen et al. 2024), section 3.1; the C2f block is YOLOv8's.
Legend: B images, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec, get_norm
from torch import Tensor, nn

from projects.rt_detr.modeling.hybrid_encoder import conv_norm


class C2f(nn.Module):
    """Pairs of 3x3 convolutions in a row on half of the channels; the outputs of all, and both
    halves, are joined: (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, norm: str, blocks: int = 3) -> None:
        super().__init__()
        width = outputs // 2
        self.conv1 = conv_norm(inputs, 2 * width, norm=norm)
        self.conv2 = conv_norm((2 + blocks) * width, outputs, norm=norm)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(conv_norm(width, width, 3, norm=norm) for _ in range(2)))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = list(self.conv1(x).chunk(2, 1))
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return self.conv2(torch.cat(outputs, 1))


def resampler(channels: int, scale: float, norm: str) -> tuple[nn.Sequential, int]:
    """What makes a feature map ``scale`` times as large, and the channels of its output."""
    if scale == 1:
        return nn.Sequential(), channels
    if scale == 0.5:
        smaller = conv_norm(channels, channels, 3, 2, norm=norm, activation=F.relu)
        return nn.Sequential(smaller), channels
    narrow = []
    if channels > 512:
        narrow.append(conv_norm(channels, channels // 2, norm=norm, activation=F.relu))
        channels //= 2
    larger = nn.ConvTranspose2d(channels, channels // 2, 2, 2)
    return nn.Sequential(*narrow, larger), channels // 2


class Projector(nn.Module):
    """Feature maps of equal size to levels of ``out_channels``.

    Args:
        input_shapes: names to shapes of the feature maps, in the order in which they are joined.
        scales: size of each level relative to the feature maps, 2, 1 or 0.5, finest first.
        out_channels: of every level.
        norm: of all convolutions, as detectron2's ``get_norm`` knows it by name.

    Raises:
        ValueError: another scale.
    """

    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec],
        scales: Sequence[float],
        out_channels: int,
        norm: str,
    ) -> None:
        super().__init__()
        if not set(scales) <= {2, 1, 0.5}:
            raise ValueError(f"neck.scales are of 2, 1 and 0.5, got {list(scales)}")
        self.in_features = list(input_shapes)
        self.resamplers, self.c2f, self.norms = (nn.ModuleList() for _ in range(3))
        for scale in scales:
            resamplers, widths = zip(
                *(resampler(shape.channels, scale, norm) for shape in input_shapes.values()),
                strict=True,
            )
            self.resamplers.append(nn.ModuleList(resamplers))
            self.c2f.append(C2f(sum(widths), out_channels, norm))
            self.norms.append(get_norm("LN", out_channels))

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Backbone features by name to levels (B, out_channels, H, W), finest first."""
        features = [inputs[name] for name in self.in_features]
        levels = []
        for resamplers, c2f, norm in zip(self.resamplers, self.c2f, self.norms, strict=True):
            resampled = [resample(x) for resample, x in zip(resamplers, features, strict=True)]
            levels.append(norm(c2f(torch.cat(resampled, 1))))
        return tuple(levels)
