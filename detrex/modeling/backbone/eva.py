"""EVA (Fang et al., CVPR 2023) by upstream's parameter names: ViTDet's ViT with BEiT's biases."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.utils import add_decomposed_rel_pos, get_abs_pos
from detectron2.modeling.backbone.vit import Attention, ViT
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detrex.utils.errors import InputError

from .vit import SimpleFeaturePyramid

__all__ = ["EVAViT", "SimpleFeaturePyramid"]


class BeitAttention(Attention):
    """detectron2's attention with a bias of queries and values, none of keys (BEiT, Bao et al.)."""

    q_bias: nn.Parameter
    v_bias: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, H, W, C)."""
        batch, *size, _ = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).flatten(1, 2)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.flatten(1, 2).unbind()  # (B * heads, H * W, C / heads)
        logits = (q * self.scale) @ k.mT
        if self.use_rel_pos:
            tables = self.rel_pos_h, self.rel_pos_w
            logits = add_decomposed_rel_pos(logits, q, *tables, size, size)
        y = (logits.softmax(-1) @ v).unflatten(0, (batch, -1)).transpose(1, 2)
        return self.proj(y.reshape(x.shape))


class EVAViT(ViT):
    """detectron2's ViT, whose arguments it takes, too.

    Args:
        qkv_bias: see ``beit_like_qkv_bias``.
        use_act_checkpoint: compute blocks again in the backward pass instead of keeping them.
        beit_like_qkv_bias: queries and values have a bias of their own, keys have none; else
            ``qkv_bias`` is that of all three.
        beit_like_gamma: False.
        freeze_patch_embed: the first convolution is not trained.
        interp_type: "vitdet".

    Raises:
        InputError: EVA's other variants, by ``beit_like_gamma`` or ``interp_type``.
    """

    def __init__(
        self,
        *vit,
        qkv_bias: bool = True,
        use_act_checkpoint: bool = False,
        beit_like_qkv_bias: bool = True,
        beit_like_gamma: bool = False,
        freeze_patch_embed: bool = False,
        interp_type: str = "vitdet",
        **options,
    ) -> None:
        if beit_like_gamma or interp_type != "vitdet":
            raise InputError("backbone: EVAViT has beit_like_gamma=False, interp_type='vitdet'")
        super().__init__(*vit, qkv_bias=qkv_bias and not beit_like_qkv_bias, **options)
        self.use_act_checkpoint = use_act_checkpoint
        for attention in [block.attn for block in self.blocks] if beit_like_qkv_bias else []:
            attention.__class__ = BeitAttention
            attention.q_bias = nn.Parameter(torch.zeros(attention.proj.in_features))
            attention.v_bias = nn.Parameter(torch.zeros(attention.proj.in_features))
        if freeze_patch_embed:
            self.patch_embed.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to one feature (B, C, H / patch, W / patch)."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, x.shape[1:3])
        for block in self.blocks:
            again = self.use_act_checkpoint and self.training
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}
