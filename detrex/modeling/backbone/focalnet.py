"""FocalNet (Yang et al., NeurIPS 2022, section 3), by the parameter names of its authors' code:
their ImageNet weights and upstream's checkpoints load as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import Backbone
from timm.layers import DropPath, Mlp, calculate_drop_path_rates
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detrex.utils.errors import InputError

from .levels import add_levels

Norm = Callable[[int], nn.Module]


class FocalModulation(nn.Module):
    """Each token times the gated sum of its surroundings, at ``levels`` scales and of the image.

    Equations 5 to 8: level l is a depthwise convolution of ``window + 2 l`` tokens after level
    l - 1, the last one the mean over the image. Features are (B, H, W, C).
    """

    def __init__(
        self, dim: int, levels: int, window: int, norm: nn.Module, average: bool, dropout: float
    ) -> None:
        super().__init__()
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Linear(dim, dim)
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, k, padding=k // 2, groups=dim, bias=False), nn.GELU())
            for k in range(window, window + 2 * levels, 2)
        )
        self.ln = norm
        self.dropout = nn.Dropout(dropout)
        self.factor = 1 / (levels + 1) if average else 1.0

    def forward(self, x: Tensor) -> Tensor:
        dim, levels = x.shape[-1], len(self.focal_layers)
        query, surroundings = self.f(x).split([dim, dim + levels + 1], -1)
        context, gates = surroundings.permute(0, 3, 1, 2).split([dim, levels + 1], 1)
        modulator = 0.0
        for i, layer in enumerate(self.focal_layers):
            context = layer(context)
            modulator = modulator + context * gates[:, i : i + 1]
        image = F.gelu(context.mean((2, 3), keepdim=True))
        modulator = self.h(self.factor * (modulator + image * gates[:, levels:]))
        return self.dropout(self.proj(self.ln(query * modulator.permute(0, 2, 3, 1))))


class Block(nn.Module):
    """Focal modulation, then an MLP, each with a norm before it or, ``post_norm``, after it."""

    def __init__(
        self,
        modulation: FocalModulation,
        mlp: Mlp,
        norms: Sequence[nn.Module],
        post_norm: bool,
        gamma: Tensor | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.modulation, self.mlp = modulation, mlp
        self.norm1, self.norm2 = norms
        self.gamma_1 = None if gamma is None else nn.Parameter(gamma)
        self.gamma_2 = None if gamma is None else nn.Parameter(gamma.clone())
        self.post_norm = post_norm
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self._add(x, self.modulation, self.norm1, self.gamma_1)
        return self._add(x, self.mlp, self.norm2, self.gamma_2)

    def _add(self, x: Tensor, part: nn.Module, norm: nn.Module, gamma: Tensor | None) -> Tensor:
        y = norm(part(x)) if self.post_norm else part(norm(x))
        return x + self.drop_path(y if gamma is None else gamma * y)


class PatchEmbed(nn.Module):
    """A strided convolution and a norm: (B, C, H, W) to (B, ceil(H / s), ceil(W / s), C')."""

    def __init__(
        self, in_chans: int, dim: int, stride: int, overlap: bool, norm: nn.Module
    ) -> None:
        super().__init__()
        kernel, padding = {4: (7, 3), 2: (3, 1)}[stride] if overlap else (stride, 0)
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, padding)
        self.norm = norm
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class FocalNet(Backbone):
    """Level i, of stride 4 * 2^i, is called ``p{i}`` and ends with a norm ``norm{i}``.

    Args:
        pretrain_img_size: unused: no size is built in.
        patch_size: 4.
        in_chans: channels of the images.
        embed_dim: channels of the first stage; each further one has twice as many.
        depths: blocks of each stage.
        mlp_ratio: hidden channels of an MLP by its channels.
        drop_rate: dropout after the first convolution, modulations and layers of MLPs.
        drop_path_rate: of the last block; it grows from 0 (stochastic depth).
        norm_layer: builds a norm of a number of channels.
        patch_norm: norms after the strided convolutions.
        out_indices: the levels returned.
        frozen_stages: 0: the first convolution is not trained; n: the first n - 1 stages neither.
        focal_levels: of each stage's modulations.
        focal_windows: tokens of the smallest window of each stage.
        use_conv_embed: the strided convolutions overlap. The first one is padded by 3 pixels, as in
            the authors' and upstream's detectors; the classifiers' is padded by 2.
        use_postln: norms after modulation and MLP, not before.
        use_postln_in_modulation: a norm of the modulated tokens.
        use_layerscale: a learned factor on each channel of a block's additions, 1e-4 at the start.
        normalize_modulator: the mean over levels instead of the sum.
        use_checkpoint: compute blocks again in the backward pass instead of keeping them.

    Raises:
        InputError: ``out_indices`` beyond the stages; another ``patch_size``.
    """

    def __init__(  # frozen: upstream's signature
        self,
        pretrain_img_size: int = 1600,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.3,
        norm_layer: Norm = nn.LayerNorm,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        focal_levels: Sequence[int] = (3, 3, 3, 3),
        focal_windows: Sequence[int] = (3, 3, 3, 3),
        use_conv_embed: bool = False,
        use_postln: bool = False,
        use_postln_in_modulation: bool = False,
        use_layerscale: bool = False,
        normalize_modulator: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if patch_size != 4:
            raise InputError(f"backbone.patch_size={patch_size}: FocalNet's patches have 4 pixels")
        dims = [embed_dim << i for i in range(len(depths))]
        merge = partial(PatchEmbed, overlap=use_conv_embed)
        patch_norm_layer = norm_layer if patch_norm else nn.Identity
        self.patch_embed = merge(in_chans, dims[0], 4, norm=patch_norm_layer(dims[0]))
        self.pos_drop = nn.Dropout(drop_rate)
        inner = norm_layer if use_postln_in_modulation else nn.Identity
        self.layers = nn.ModuleList()
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        shapes = zip(dims, focal_levels, focal_windows, rates, strict=True)
        for dim, levels, window, stage in shapes:
            blocks = nn.ModuleList()
            for rate in stage:
                modulation = FocalModulation(
                    dim, levels, window, inner(dim), normalize_modulator, drop_rate
                )
                mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop_rate)
                norms = norm_layer(dim), norm_layer(dim)
                gamma = torch.full((dim,), 1e-4) if use_layerscale else None
                blocks.append(Block(modulation, mlp, norms, use_postln, gamma, rate))
            layer = nn.ModuleDict({"blocks": blocks})
            if dim < dims[-1]:
                layer["downsample"] = merge(dim, 2 * dim, 2, norm=patch_norm_layer(2 * dim))
            self.layers.append(layer)
        self._start(frozen_stages)
        add_levels(self, norm_layer, dims, out_indices)
        self.use_checkpoint = use_checkpoint

    def _start(self, frozen_stages: int) -> None:
        """Draw the weights; freeze those of the first stages."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if frozen_stages >= 0:
            self.patch_embed.requires_grad_(False)
        for i in range(frozen_stages - 1):
            self.layers[i].requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)) by name."""
        features = {}
        x = self.pos_drop(self.patch_embed(x))
        for i, layer in enumerate(self.layers):
            for block in layer["blocks"]:
                again = self.use_checkpoint and self.training
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            if f"p{i}" in self._out_features:
                features[f"p{i}"] = self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2)
            if "downsample" in layer:
                x = layer["downsample"](x.permute(0, 3, 1, 2))
        return features
