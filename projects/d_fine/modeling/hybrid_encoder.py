"""D-FINE's hybrid encoder (Peng et al., ICLR 2025, section 4.3): RT-DETR's with cheaper
convolutions across levels, and more of their intermediate outputs in what fuses two of them.

Legend: B images, C channels; levels are (B, C, H, W), finest first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from projects.rt_detr.modeling.hybrid_encoder import CSPLayer, HybridEncoder, conv_norm


class ELANFusion(nn.Module):
    """Two levels of equal size, concatenated, to one: a generalised efficient layer aggregation
    network (Wang et al., YOLOv9, ECCV 2024) of two CSP layers of ``width`` channels."""

    def __init__(self, channels: int, width: int, blocks: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(2 * channels, 2 * channels, norm=norm)
        self.csp_rep1 = CSPLayer(channels, width, width, blocks, norm)
        self.conv2 = conv_norm(width, width, 3, norm=norm)
        self.csp_rep2 = CSPLayer(width, width, width, blocks, norm)
        self.conv3 = conv_norm(width, width, 3, norm=norm)
        self.conv4 = conv_norm(2 * (channels + width), channels, norm=norm)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        halves = self.conv1(torch.cat([x, y], 1)).chunk(2, 1)
        first = self.conv2(self.csp_rep1(halves[1]))
        second = self.conv3(self.csp_rep2(first))
        return self.conv4(torch.cat([*halves, first, second], 1))


class DFINEHybridEncoder(HybridEncoder):
    """RT-DETR's arguments; where ``out_channels`` is ``embed_dim``, no convolution ends it."""

    def __init__(self, *args, **hybrid) -> None:
        super().__init__(*args, **hybrid)
        for i, conv in enumerate(self.output_proj):
            if conv.in_channels == conv.out_channels:
                self.output_proj[i] = nn.Identity()

    def width(self, embed_dim: int, expansion: float) -> int:
        return round(expansion * embed_dim // 2)

    def lateral(self, dim: int, norm: str) -> nn.Module:
        return conv_norm(dim, dim, norm=norm, activation=None)

    def shrink(self, dim: int, norm: str) -> nn.Module:
        """A convolution across channels, then one of each channel."""
        wide = conv_norm(dim, dim, norm=norm, activation=None)
        return nn.Sequential(wide, conv_norm(dim, dim, 3, 2, norm, None, groups=dim))

    def fusion(self, dim: int, width: int, blocks: int, norm: str) -> nn.Module:
        return ELANFusion(dim, width, blocks, norm)
