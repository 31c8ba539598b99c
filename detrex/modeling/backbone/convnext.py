"""ConvNeXt (Liu et al., CVPR 2022, figure 4), by the parameter names of its authors' code: their
ImageNet weights and upstream's checkpoints load as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.backbone import Backbone
from timm.layers import DropPath, LayerNorm2d, calculate_drop_path_rates
from torch import Tensor, nn

from .levels import add_levels


class Block(nn.Module):
    """x + gamma * MLP(LN(depthwise 7x7 convolution of x)) of features (B, C, H, W)."""

    def __init__(self, dim: int, drop_path: float, gamma: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), gamma)) if gamma > 0 else None
        self.drop_path = DropPath(drop_path)
        for linear in (self.pwconv1, self.pwconv2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        y = self.pwconv2(nn.functional.gelu(self.pwconv1(y)))
        y = y if self.gamma is None else self.gamma * y
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ConvNeXt(Backbone):
    """Level i, of stride 4 * 2^i, is called ``p{i}`` and ends with a LayerNorm ``norm{i}``.

    The convolutions that cut features into patches drop the last, partial patch of a side.

    Args:
        in_chans: channels of the images.
        depths: blocks of each stage.
        dims: channels of each stage.
        drop_path_rate: of the last block; it grows from 0 (stochastic depth).
        layer_scale_init_value: start of gamma; 0: no gamma.
        out_indices: the levels returned.
        frozen_stages: so many stages, from the first one on, are not trained.

    Raises:
        InputError: ``out_indices`` beyond the stages.
    """

    def __init__(  # frozen: upstream's signature
        self,
        in_chans: int = 3,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, stride=4), LayerNorm2d(dims[0]))
        merges = [
            nn.Sequential(LayerNorm2d(dim), nn.Conv2d(dim, wider, 2, stride=2))
            for dim, wider in zip(dims[:-1], dims[1:], strict=True)
        ]
        self.downsample_layers = nn.ModuleList([stem, *merges])
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim, rate, layer_scale_init_value) for rate in stage))
            for dim, stage in zip(dims, rates, strict=True)
        )
        add_levels(self, LayerNorm2d, dims, out_indices)
        for i in range(frozen_stages):
            self.downsample_layers[i].requires_grad_(False)
            self.stages[i].requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, floor(H / stride), floor(W / stride)) by name."""
        features = {}
        for i, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[i](x))
            if f"p{i}" in self._out_features:
                features[f"p{i}"] = self.get_submodule(f"norm{i}")(x)
        return features
