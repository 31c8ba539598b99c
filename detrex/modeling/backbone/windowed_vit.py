"""A plain ViT whose tokens stay in windows, except in the blocks that attend globally.

Source: LW-DETR (Chen et al. 2024, arXiv 2406.03459), section 3.2, "window-major feature map
organization"; RF-DETR has the same on DINOv2.
Legend: B images, W windows, T tokens of a window, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from timm.models import VisionTransformer
from torch import Tensor

from detrex.modeling.transformer.decoder import recomputed
from detrex.utils.errors import InputError

from .timm import TimmBackbone
from .vit import on_whole_patches


class WindowedViT(TimmBackbone):
    """timm's ``VisionTransformer``; the output of block i is called ``p{i}``.

    Args:
        model_name: its name in timm; one without register tokens.
        out_indices: blocks whose outputs are features.
        global_indices: blocks that attend to all tokens of an image; others see their window.
        num_windows: windows along each side of an image.
        final_norm: features go through the model's last norm, as DINOv2's.
        antialias: position embeddings are resized like pictures, with an antialiasing filter.
        model_options: further arguments of timm's model. Without ``class_token=False`` each window
            has a copy of that token.
        timm: of :class:`TimmBackbone`.

    Images are padded to whole windows. In blocks that attend globally stochastic depth drops whole
    images, in others windows.

    Raises:
        InputError: another kind of model, or a block that it does not have.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int],
        global_indices: Sequence[int],
        num_windows: int,
        final_norm: bool = True,
        antialias: bool = True,
        model_options: Mapping[str, object] | None = None,
        **timm: object,
    ) -> None:
        options = dict(num_classes=0, global_pool="", dynamic_img_size=True)
        super().__init__(
            model_name,
            features_only=False,
            out_indices=out_indices,
            model_options={**options, **(model_options or {})},
            **timm,
        )
        vit = self.timm_model
        if not isinstance(vit, VisionTransformer) or vit.reg_token is not None:
            raise InputError(
                f"backbone.model_name={model_name!r}: windows need a plain ViT of timm without"
                " register tokens"
            )
        depth, indices = len(vit.blocks), [*out_indices, *global_indices]
        if not set(indices) <= set(range(depth)):
            raise InputError(
                f"backbone: out_indices={list(out_indices)}, global_indices={list(global_indices)}:"
                f" {model_name} has the blocks 0 to {depth - 1}"
            )
        vit.prune_intermediate_layers(list(out_indices), prune_norm=not final_norm)
        self.out_indices, self.global_indices = tuple(out_indices), frozenset(global_indices)
        self.num_windows, self.antialias = num_windows, antialias
        self.stride = vit.patch_embed.patch_size[0]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)) by name."""
        strides = dict.fromkeys(self.names, self.stride)
        return on_whole_patches(self._levels, x, strides, self.stride * self.num_windows)

    def _levels(self, x: Tensor) -> dict[str, Tensor]:
        vit, levels = self.timm_model, []
        x = vit.patch_embed(x.contiguous(memory_format=torch.channels_last))  # (B, H, W, C)
        size = tuple(side // self.num_windows for side in x.shape[1:3])
        x = self._windows(x + self._positions(x.shape[1:3]), size)
        if vit.cls_token is not None:
            first = vit.cls_token + vit.pos_embed[:, :1]  # (1, 1, C)
            x = torch.cat([first.expand(*x.shape[:2], -1, -1), x], 2)
        for i, block in enumerate(recomputed(vit.blocks, vit.grad_checkpointing)):
            joined = (1, 2) if i in self.global_indices else (0, 1)  # windows of an image, or none
            x = block(x.flatten(*joined)).view_as(x)  # (B, W, T, C)
            if i in self.out_indices:
                levels.append(self._image(vit.norm(x)[:, :, vit.num_prefix_tokens :], size))
        return dict(zip(self.names, levels, strict=True))

    def _positions(self, size: Sequence[int]) -> Tensor:
        """Position embeddings (1, H, W, C) of the patches of an image."""
        grid = self.timm_model.pos_embed[:, self.timm_model.num_prefix_tokens :]
        side = round(grid.shape[1] ** 0.5)
        grid = grid.unflatten(1, (side, side))
        if tuple(size) == (side, side):
            return grid
        grid = grid.permute(0, 3, 1, 2).float()
        resized = F.interpolate(grid, tuple(size), mode="bicubic", antialias=self.antialias)
        return resized.permute(0, 2, 3, 1)

    def _windows(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, H, W, C) of images as tokens of windows (B, W, T, C) of that size."""
        grid = x.unflatten(2, (-1, size[1])).unflatten(1, (-1, size[0]))
        return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _image(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, W, T, C) of windows of that size as a feature level (B, C, H, W)."""
        grid = x.unflatten(2, size).unflatten(1, (self.num_windows, self.num_windows))
        return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    def output_shape(self) -> dict[str, ShapeSpec]:
        spec = ShapeSpec(channels=self.timm_model.embed_dim, stride=self.stride)
        return dict.fromkeys(self.names, spec)
