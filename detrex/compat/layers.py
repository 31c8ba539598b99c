"""Small layers of upstream that our models do without."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["ConvNorm", "ConvNormAct", "LayerNorm", "PositionEmbeddingLearned"]


class ConvNormAct(nn.Module):
    """``conv``, then ``norm`` and ``activation`` where there are any."""

    def __init__(  # frozen: upstream's signature
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        norm_layer: nn.Module | None = None,
        activation: nn.Module | None = None,
        **kwargs,
    ) -> None:
        super().__init__()
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.conv = nn.Conv2d(*sizes, **kwargs)
        self.norm = norm_layer
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        for step in (self.conv, self.norm, self.activation):
            x = x if step is None else step(x)
        return x


ConvNorm = partial(ConvNormAct, activation=None)


class LayerNorm(nn.LayerNorm):
    """Normalises the last axis of (B, H, W, C), or with ``channel_last=False`` the first of
    (B, C, H, W)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6, channel_last: bool = True) -> None:
        super().__init__(normalized_shape, eps)
        self.channel_last = channel_last

    def forward(self, x: Tensor) -> Tensor:
        if self.channel_last:
            return super().forward(x)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PositionEmbeddingLearned(nn.Module):
    """A learned vector for each column and row (DETR, Carion et al. 2020): mask (B, H, W) to
    (B, 2 * num_pos_feats, H, W), columns first. A level is at most as large as the tables."""

    def __init__(
        self, num_pos_feats: int = 256, row_num_embed: int = 50, col_num_embed: int = 50
    ) -> None:
        super().__init__()
        self.num_pos_feats = num_pos_feats
        self.row_num_embed = row_num_embed
        self.col_num_embed = col_num_embed
        self.row_embed = nn.Embedding(row_num_embed, num_pos_feats)
        self.col_embed = nn.Embedding(col_num_embed, num_pos_feats)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in [0, 1)."""
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, mask: Tensor) -> Tensor:
        batch, height, width = mask.shape
        columns = self.col_embed(torch.arange(width, device=mask.device))
        rows = self.row_embed(torch.arange(height, device=mask.device))
        shape = (batch, height, width, self.num_pos_feats)
        embedded = [columns.expand(shape), rows[:, None].expand(shape)]
        return torch.cat(embedded, -1).permute(0, 3, 1, 2)
