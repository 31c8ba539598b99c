"""The attention module of Deformable DETR (Zhu et al. 2021) around the sampling function."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments

from .function import as_shapes, deformable_attention
from .plain import Shapes


class MultiScaleDeformableAttention(nn.Module):
    """Each query samples ``num_points`` locations per level and head around its reference point.

    ``img2col_step``: upstream's argument, without effect.

    Raises:
        ValueError: ``embed_dim`` is not divisible by ``num_heads``.
    """

    @keep_arguments
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
        self.im2col_step = img2col_step  # upstream's subclasses pass it on
        self.samples = (num_heads, num_levels, num_points)
        self.sampling_offsets = nn.Linear(embed_dim, math.prod(self.samples) * 2)
        self.attention_weights = nn.Linear(embed_dim, math.prod(self.samples))
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.attend = deformable_attention
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

    def forward(  # frozen: upstream's signature
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
        """``identity`` (default: the query) plus the attention's output (B, N, C).

        query (B, N, C), value (B, S, C), reference_points (B, N, L, 2 or 4) in [0, 1];
        ``batch_first=False``: (N, B, C) and (S, B, C).

        Raises:
            ValueError: without reference points, or if sizes do not fit together.
        """
        if reference_points is None:
            raise ValueError("MultiScaleDeformableAttention needs reference_points")
        identity = query if identity is None else identity
        value = query if value is None else value
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        heads = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (*self.samples, 2))
        logits = self.attention_weights(query).unflatten(-1, self.samples)
        shapes = as_shapes(spatial_shapes)
        out = self.attend(heads, shapes, offsets, logits, reference_points, key_padding_mask)
        out = self.dropout(self.output_proj(out))
        return identity + (out if self.batch_first else out.transpose(0, 1))
