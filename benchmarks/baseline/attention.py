"""Multi-scale deformable attention in the plain formulation of public detection transformers.

One ``grid_sample`` per level, the samples of all levels stacked, then weighted and summed.

Legend: B images, S tokens, N queries, H heads, D channels per head, L levels, P points per level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(value: Tensor, shapes: list, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result as ``detrex.layers.multi_scale_deformable_attention``."""
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    grids = 2 * locations - 1
    samples = []
    for i, level in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        image = level.flatten(2).transpose(1, 2).reshape(batch * heads, dim, *shapes[i])
        grid = grids[:, :, :, i].transpose(1, 2).flatten(0, 1)  # (B*H, N, P, 2)
        samples.append(F.grid_sample(image, grid, align_corners=False))  # (B*H, D, N, P)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    out = (torch.stack(samples, dim=-2).flatten(-2) * weights).sum(-1)
    return out.view(batch, heads * dim, queries).transpose(1, 2).contiguous()
