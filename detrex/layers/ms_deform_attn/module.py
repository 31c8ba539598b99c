"""The attention module of Deformable DETR (Zhu et al. 2021) around the sampling function."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .function import multi_scale_deformable_attention
from .plain import Shapes, as_shapes


class MultiScaleDeformableAttention(nn.Module):
    """Each query samples ``num_points`` places per level and head around its reference point.

    ``img2col_step`` is accepted for compatibility and has no effect.

    Raises:
        ValueError: if ``embed_dim`` is not divisible by ``num_heads``.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        img2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.dropout = nn.Dropout(dropout)
        self.batch_first = batch_first
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.init_weights()

    def init_weights(self) -> None:
        """Uniform attention; head h looks in direction 2 pi h / H, point p at distance p + 1."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1)
        grid = direction[:, None, None] * distance[:, None]  # (H, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(grid.expand(-1, self.num_levels, -1, -1).flatten())
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | Shapes | None = None,
        level_start_index: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        """query (B, N, C), value (B, S, C), reference_points (B, N, L, 2 or 4) in [0, 1]."""
        value = query if value is None else value
        places = query if query_pos is None else query + query_pos
        if not self.batch_first:
            places, value = places.transpose(0, 1), value.transpose(0, 1)
        shapes, values = as_shapes(spatial_shapes), self._values(value, key_padding_mask)
        locations = self._locations(places, reference_points, shapes)
        out = multi_scale_deformable_attention(values, shapes, locations, self._weights(places))
        out = self.dropout(self.output_proj(out))
        out = out if self.batch_first else out.transpose(0, 1)
        return out + (query if identity is None else identity)

    def _values(self, value: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        return value.unflatten(-1, (self.num_heads, -1))  # (B, S, H, D)

    def _weights(self, query: Tensor) -> Tensor:
        logits = self.attention_weights(query).float().unflatten(-1, (self.num_heads, -1))
        return logits.softmax(-1).unflatten(-1, (self.num_levels, self.num_points))

    def _locations(self, query: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """Sampling places (B, N, H, L, P, 2), as (x, y) in [0, 1] of each level.

        In fp32 also under autocast: bf16 coordinates are off by pixels on a large image.
        """
        grid = (self.num_heads, self.num_levels, self.num_points, 2)
        offsets = self.sampling_offsets(query).float().unflatten(-1, grid)
        reference = reference.float()[:, :, None, :, None]  # (B, N, 1, L, 1, 2 or 4)
        if reference.shape[-1] == 2:  # offsets in pixels of the level
            size = torch.tensor([(w, h) for h, w in shapes], device=query.device)
            return reference + offsets / size[:, None]
        # offsets in half box sizes, spread over the points
        return reference[..., :2] + offsets / self.num_points * reference[..., 2:] * 0.5
