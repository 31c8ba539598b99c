"""Deformable attention in plain PyTorch: the definition that every other path is tested against.

Legend: B images, S tokens of all levels, N queries, H heads, D channels per head, L levels,
P points per level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detrex.utils.device import send

Shapes = Sequence[tuple[int, int]]


def plain_attention(
    value: Tensor,
    shapes: Shapes,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Arguments and result as ``deformable_attention``."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    sampled, weights = offsets.to(dtype), logits.to(dtype)
    if reference is not None:
        sampled = locations(sampled, reference.to(dtype), shapes)
        weights = weights.flatten(-2).softmax(-1).view_as(weights)
    if mask is not None:
        value = value.masked_fill(mask[..., None, None], 0.0)
    return _sample(value.to(dtype), shapes, sampled, weights).to(value.dtype)


def locations(offsets: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
    """Sampling locations (B, N, H, L, P, 2), as (x, y) in [0, 1] of each level."""
    reference = reference[:, :, None, :, None]  # (B, N, 1, L, 1, 2 or 4)
    if reference.shape[-1] == 2:  # offsets in pixels of the level
        size = send(torch.tensor([(w, h) for h, w in shapes]), offsets.device)
        return reference + offsets / size[:, None]
    # offsets in half box sizes, spread over the points
    return reference[..., :2] + offsets / offsets.shape[-2] * reference[..., 2:] * 0.5


def _sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighted samples (B, N, H * D), summed level by level: no tensor holds all levels."""
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (L, B*H, N, P, 2)
    weights = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]  # (L, B*H, 1, N, P)
    out = value.new_zeros(batch * heads, dim, queries)
    levels = value.split([h * w for h, w in shapes], dim=1)
    for (h, w), level, grid, weight in zip(shapes, levels, grids, weights, strict=True):
        image = level.permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        sampled = F.grid_sample(image, grid, align_corners=False)  # (B*H, D, N, P)
        out = out + (sampled * weight).sum(-1)
    return out.view(batch, heads * dim, queries).transpose(1, 2)
