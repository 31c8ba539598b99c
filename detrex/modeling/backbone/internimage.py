"""InternImage (Wang et al., CVPR 2023, section 3) by the parameter names of its authors' code.

Legend: B images, C channels, G groups; features are (B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.backbone import Backbone
from timm.layers import DropPath, Mlp, calculate_drop_path_rates
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detrex.layers.ms_deform_attn import deformable_attention
from detrex.utils.errors import InputError

from .levels import add_levels


class Permute(nn.Module):
    """The axes of a tensor in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def norm(dim: int) -> nn.Sequential:
    """Layer norm of (B, H, W, C)."""
    return nn.Sequential(nn.LayerNorm(dim, eps=1e-6))


def norm_of_planes(dim: int) -> nn.Sequential:
    """Layer norm of (B, C, H, W), returned as (B, H, W, C)."""
    return nn.Sequential(Permute(0, 2, 3, 1), nn.LayerNorm(dim, eps=1e-6))


class DCNv3(nn.Module):
    """Deformable convolution with weights for each group that sum to 1 (equation 2 there).

    A group reads 3x3 points around each token, moved by offsets: deformable attention whose heads
    are the groups. Tokens outside of the image are zero.

    Args:
        dim: C.
        groups: G.
        offset_scale: factor on offsets and on the distances of the 3x3 points.
    """

    def __init__(self, dim: int, groups: int, offset_scale: float) -> None:
        super().__init__()
        self.groups, self.offset_scale = groups, offset_scale
        conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.dw_conv = nn.Sequential(conv, norm_of_planes(dim), nn.GELU())
        self.offset = nn.Linear(dim, groups * 9 * 2)
        self.mask = nn.Linear(dim, groups * 9)
        self.input_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        steps = torch.tensor([-1.0, 0.0, 1.0])
        points = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)  # column by column
        self.register_buffer("points", points.reshape(9, 2), persistent=False)  # (x, y)

    def reset_parameters(self) -> None:
        """Start as a mean over 3x3 tokens."""
        for linear in (self.offset, self.mask, self.input_proj, self.output_proj):
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.mask.weight)
        nn.init.xavier_uniform_(self.input_proj.weight)
        nn.init.xavier_uniform_(self.output_proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        local = self.dw_conv(x.permute(0, 3, 1, 2)).flatten(1, 2)  # (B, HW, C)
        offsets = self.offset(local).unflatten(-1, (self.groups, 1, 9, 2)) + self.points
        logits = self.mask(local).unflatten(-1, (self.groups, 1, 9))
        value = self.input_proj(x).flatten(1, 2).unflatten(-1, (self.groups, -1))
        rows, columns = (
            (torch.arange(side, device=x.device) + 0.5) / side for side in (height, width)
        )
        centers = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
        centers = centers.reshape(1, -1, 1, 2).expand(batch, -1, -1, -1)
        shapes = [(height, width)]
        y = deformable_attention(value, shapes, self.offset_scale * offsets, logits, centers)
        return self.output_proj(y.view_as(x))


class Block(nn.Module):
    """Deformable convolution, then an MLP, each with a norm before it or, ``post_norm``, after."""

    def __init__(
        self, dcn: DCNv3, mlp: Mlp, post_norm: bool, gamma: float | None, drop_path: float
    ) -> None:
        super().__init__()
        dim = dcn.output_proj.out_features
        self.norm1, self.norm2 = norm(dim), norm(dim)
        self.dcn, self.mlp = dcn, mlp
        for name in ("gamma1", "gamma2"):
            factor = None if gamma is None else nn.Parameter(torch.full((dim,), gamma))
            self.register_parameter(name, factor)
        self.post_norm = post_norm
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self._add(x, self.dcn, self.norm1, self.gamma1)
        return self._add(x, self.mlp, self.norm2, self.gamma2)

    def _add(self, x: Tensor, part: nn.Module, norm: nn.Module, gamma: Tensor | None) -> Tensor:
        y = norm(part(x)) if self.post_norm else part(norm(x))
        return x + self.drop_path(y if gamma is None else gamma * y)


class Stem(nn.Module):
    """Two strided convolutions: (B, 3, H, W) to (B, ceil(H / 4), ceil(W / 4), C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, dim // 2, 3, 2, 1)
        self.norm1 = norm_of_planes(dim // 2).append(Permute(0, 3, 1, 2))
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, 2, 1)
        self.norm2 = norm_of_planes(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(nn.functional.gelu(self.norm1(self.conv1(x)))))


class Downsample(nn.Module):
    """A strided convolution to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 2 * dim, 3, 2, 1, bias=False)
        self.norm = norm_of_planes(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)))


class InternImage(Backbone):
    """Level i, of stride 4 * 2^i, is called ``p{i}``.

    Args:
        core_op: "DCNv3".
        channels: of the first stage; each further one has twice as many.
        depths: blocks of each stage.
        groups: of the deformable convolutions of each stage.
        mlp_ratio: hidden channels of an MLP by its channels.
        drop_rate: dropout after the first convolutions and the layers of MLPs.
        drop_path_rate: of the last block; it grows from 0 (stochastic depth).
        drop_path_type: "linear".
        act_layer: "GELU".
        norm_layer: "LN".
        layer_scale: start of a learned factor on each channel of a block's additions; None: none.
        offset_scale: see :class:`DCNv3`.
        post_norm: norms after convolution and MLP instead of before them and after each stage.
        with_cp: compute blocks again in the backward pass instead of keeping them.
        out_indices: the levels returned.
        of_larger_models: upstream's arguments of InternImage-H and -G, and its unused ones.

    Raises:
        InputError: ``out_indices`` beyond the stages; a value that only InternImage-H and -G set.
    """

    def __init__(  # frozen: upstream's signature
        self,
        core_op: str = "DCNv3",
        channels: int = 64,
        depths: Sequence[int] = (3, 4, 18, 5),
        groups: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        drop_path_type: str = "linear",
        act_layer: str = "GELU",
        norm_layer: str = "LN",
        layer_scale: float | None = None,
        offset_scale: float = 1.0,
        post_norm: bool = False,
        with_cp: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **of_larger_models,
    ) -> None:
        super().__init__()
        _check(core_op, drop_path_type, act_layer, norm_layer, of_larger_models)
        dims = [channels << i for i in range(len(depths))]
        self.patch_embed = Stem(dims[0])
        self.pos_drop = nn.Dropout(drop_rate)
        self.levels = nn.ModuleList()
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        for dim, count, stage in zip(dims, groups, rates, strict=True):
            blocks = nn.ModuleList()
            for rate in stage:
                mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop_rate)
                dcn = DCNv3(dim, count, offset_scale)
                blocks.append(Block(dcn, mlp, post_norm, layer_scale, rate))
            level = {"blocks": blocks} if post_norm else {"blocks": blocks, "norm": norm(dim)}
            level |= {"downsample": Downsample(dim)} if dim < dims[-1] else {}
            self.levels.append(nn.ModuleDict(level))
        self.apply(_initialise)
        add_levels(self, nn.Identity, dims, out_indices)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)) by name."""
        features = {}
        x = self.pos_drop(self.patch_embed(x))
        for i, level in enumerate(self.levels):
            for block in level["blocks"]:
                again = self.with_cp and self.training
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            x = level["norm"](x) if "norm" in level else x
            if f"p{i}" in self._out_features:
                features[f"p{i}"] = x.permute(0, 3, 1, 2)
            x = level["downsample"](x) if "downsample" in level else x
        return features


def _check(core_op: str, rates: str, activation: str, norm_layer: str, others: dict) -> None:
    chosen = dict(
        core_op=core_op, drop_path_type=rates, act_layer=activation, norm_layer=norm_layer
    )
    usual = dict(core_op="DCNv3", drop_path_type="linear", act_layer="GELU", norm_layer="LN")
    changed = [name for name, value in chosen.items() if value != usual[name]]
    changed += [name for name, value in others.items() if value]
    if changed:
        raise InputError(f"backbone.{changed[0]}: InternImage-T to -L leave it as it is")


def _initialise(module: nn.Module) -> None:
    """``nn.Module.apply`` comes to a module after what is in it."""
    if isinstance(module, DCNv3):
        module.reset_parameters()
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
