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


def sampling_locations(shapes: list, offsets: Tensor, logits: Tensor, reference: Tensor) -> tuple:
    """Sampling locations (B, N, H, L, P, 2) in [0, 1] and weights (B, N, H, L, P), as public models
    compute them before they call the attention."""
    weights = logits.flatten(-2).softmax(-1).view_as(logits)
    reference = reference[:, :, None, :, None]
    if reference.shape[-1] == 2:
        size = torch.tensor(shapes, device=offsets.device).flip(-1)[:, None]
        return reference + offsets / size, weights
    return reference[..., :2] + offsets / logits.shape[-1] * reference[..., 2:] * 0.5, weights


def attention_from_logits(
    value: Tensor, shapes: list, offsets: Tensor, logits: Tensor, reference: Tensor
) -> Tensor:
    """Arguments and result as ``detrex.layers.ms_deform_attn.deformable_attention``."""
    return attention(value, shapes, *sampling_locations(shapes, offsets, logits, reference))
