"""D-FINE's decoder layer (Peng et al., ICLR 2025, section 4.3): a gate in place of the residual
connection around cross-attention, which samples the memory itself at more points where it matters.

Legend: B images, N queries, S tokens, L levels, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import FFN, MultiheadAttention
from detrex.layers.attention import Rows
from detrex.layers.ms_deform_attn import deformable_attention

LARGEST = 65504.0  # of float16


class PointSampling(nn.Module):
    """Deformable attention without projections of values and output; ``points``: number of points
    on each level, finest first. Offsets are in half box sizes / points of the level."""

    def __init__(self, embed_dim: int, num_heads: int, points: Sequence[int]) -> None:
        super().__init__()
        self.num_heads, self.points = num_heads, tuple(points)
        total, most = sum(points), max(points)
        self.sampling_offsets = nn.Linear(embed_dim, num_heads * total * 2)
        self.attention_weights = nn.Linear(embed_dim, num_heads * total)
        # The kernels read as many points of each level: index ``total`` is one without weight.
        first = [sum(points[:level]) for level in range(len(points))]
        slots = [
            start + i if i < count else total
            for start, count in zip(first, points, strict=True)
            for i in range(most)
        ]
        stretch = torch.tensor([[[most / count]] for count in points])  # (L, 1, 1)
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        self.register_buffer("stretch", stretch, persistent=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Uniform attention; head h looks in direction 2 pi h / H, point p at distance p + 1."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.cat([torch.arange(1, count + 1) for count in self.points])
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((direction[:, None] * distance[:, None]).flatten())

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        key_padding_mask: Tensor,
    ) -> Tensor:
        """What each query samples, (B, N, C): queries (B, N, C), value (B, S, C), boxes
        reference_points (B, N, L, 4), mask (B, S), True = padding."""
        query, levels = query + query_pos, (len(self.points), max(self.points))
        offsets = self.sampling_offsets(query).unflatten(-1, (self.num_heads, -1, 2))
        logits = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        offsets = F.pad(offsets, (0, 0, 0, 1)).index_select(3, self.slots).unflatten(3, levels)
        logits = F.pad(logits, (0, 1), value=-math.inf).index_select(3, self.slots)
        return deformable_attention(
            value.unflatten(-1, (self.num_heads, -1)),
            spatial_shapes,
            offsets * self.stretch,
            logits.unflatten(3, levels),
            reference_points,
            key_padding_mask,
        )


class Gate(nn.Module):
    """norm(g1 * x1 + g2 * x2) with gates g = sigmoid(Linear([x1; x2])) of each channel, which start
    at one half."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * embed_dim, 2 * embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Both (B, N, C) to (B, N, C)."""
        g1, g2 = self.gate(torch.cat([x1, x2], -1)).sigmoid().chunk(2, -1)
        return self.norm(g1 * x1 + g2 * x2)


class GatedDecoderLayer(nn.Module):
    """Self-attention among the queries, gated sampling of the memory, then feed-forward."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        points: Sequence[int],
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        attention = MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
        self.attentions = nn.ModuleList([attention, PointSampling(embed_dim, num_heads, points)])
        self.gateway = Gate(embed_dim)
        self.ffns = nn.ModuleList([FFN(embed_dim, feedforward_dim, ffn_drop=dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(2))

    def forward(
        self, x: Tensor, query_pos: Tensor, attn_mask: tuple[Rows, ...], **memory: object
    ) -> Tensor:
        """Contents x, positions query_pos (B, N, C); ``memory``: arguments of the sampling."""
        x = self.norms[0](self.attentions[0](x, query_pos=query_pos, attn_mask=attn_mask))
        x = self.gateway(x, self.attentions[1](x, query_pos, **memory))
        return self.norms[1](self.ffns[0](x).clamp(-LARGEST, LARGEST))
