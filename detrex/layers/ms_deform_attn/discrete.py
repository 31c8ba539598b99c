"""Deformable attention that reads whole pixels (RT-DETRv2, Lv et al. 2024, section 3.1).

It needs no interpolation, which some deployment targets lack, and gives the locations no
gradient.

Legend: B images, S tokens of all levels, N queries, H heads, D channels per head, L levels,
P points per level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .plain import Shapes, locations


def discrete_attention(
    value: Tensor,
    shapes: Shapes,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Arguments and result as ``deformable_attention``'s with a reference.

    As in the released code a location x of a level W pixels wide reads pixel round(x W), not the
    one that it lies in; locations outside read the border.
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    sampled = locations(offsets.to(dtype), reference.to(dtype), shapes)
    weights = logits.to(dtype).flatten(-2).softmax(-1).view_as(logits)
    if mask is not None:
        value = value.masked_fill(mask[..., None, None], 0.0)
    out = torch.zeros((), dtype=dtype, device=value.device)
    levels = value.split([h * w for h, w in shapes], dim=1)
    for i, ((h, w), level) in enumerate(zip(shapes, levels, strict=True)):
        x, y = sampled[:, :, :, i].unbind(-1)  # (B, N, H, P)
        column, row = (
            (share * side + 0.5).long().clamp(0, side - 1) for share, side in ((x, w), (y, h))
        )
        index = (row * w + column).transpose(2, 3).flatten(1, 2)  # (B, N * P, H)
        read = level.gather(1, index[..., None].expand(-1, -1, -1, level.shape[-1]))
        read = read.unflatten(1, (x.shape[1], -1))  # (B, N, P, H, D)
        out = out + torch.einsum("bnphd,bnhp->bnhd", read.to(dtype), weights[:, :, :, i])
    return out.flatten(2).to(value.dtype)
