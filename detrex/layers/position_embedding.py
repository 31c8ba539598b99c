"""Sine position embeddings (Vaswani et al. 2017, in the 2-d form of DETR, Carion et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detrex.utils.errors import AssertedError


def sine_features(x: Tensor, num_feats: int, temperature: float) -> Tensor:
    """Interleaved sines and cosines (..., num_feats) of angles (...)."""
    index = torch.arange(0, num_feats, 2, dtype=torch.float32, device=x.device)
    angle = x[..., None] / temperature ** (index / num_feats)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


class PositionEmbeddingSine(nn.Module):
    """Embeds the position of each pixel: mask (B, H, W), True = padding, to
    (B, 2 * num_pos_feats, H, W).

    With ``normalize`` the coordinates of the unpadded part run from 0 to ``scale``; ``offset`` is
    added to the 1-based pixel index first (-0.5 = pixel centres).

    Raises:
        AssertedError: with ``normalize``, for a scale that is no number.
    """

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: int = 10000,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if normalize and not isinstance(scale, int | float):
            raise AssertedError(f"position_embedding.scale: not a number: {scale!r}")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.scale = scale
        self.eps = eps
        self.offset = offset
        self.normalize = normalize

    def forward(self, mask: Tensor, **kwargs) -> Tensor:
        inside = ~mask
        y = inside.cumsum(1, dtype=torch.float32)
        x = inside.cumsum(2, dtype=torch.float32)
        if self.normalize:
            y = (y + self.offset) / (y[:, -1:, :] + self.eps) * self.scale
            x = (x + self.offset) / (x[:, :, -1:] + self.eps) * self.scale
        sines = sine_features(torch.stack([y, x], -1), self.num_pos_feats, self.temperature)
        return sines.flatten(-2).permute(0, 3, 1, 2)


def get_sine_pos_embed(
    pos_tensor: Tensor,
    num_pos_feats: int = 128,
    temperature: int = 10000,
    exchange_xy: bool = True,
) -> Tensor:
    """Embeds coordinates in [0, 1]: (..., n) to (..., n * num_pos_feats).

    ``exchange_xy`` puts y before x, the order of :class:`PositionEmbeddingSine`.
    """
    sines = sine_features(pos_tensor * (2 * math.pi), num_pos_feats, temperature)  # (..., n, F)
    if exchange_xy:
        sines = torch.cat([sines[..., :2, :].flip(-2), sines[..., 2:, :]], -2)
    return sines.flatten(-2)
