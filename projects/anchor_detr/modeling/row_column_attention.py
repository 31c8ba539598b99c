"""Row-column decoupled attention: first along the rows of a feature map, then along its columns.

Source: Anchor DETR (Wang et al., AAAI 2022), section 3.4, equations 6-8.
Legend: B images, N queries, feature maps of H rows and W columns, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Axis(NamedTuple):
    """The S columns or the S rows of a feature map.

    position (B, S, C) embeds their places; hidden (B, S), True = padding; share (B, S) is what
    each of them counts in a mean over the axis.
    """

    position: Tensor
    hidden: Tensor
    share: Tensor


class FeatureMap(NamedTuple):
    """Tokens (B, H, W, C); ``x`` are their columns, ``y`` their rows."""

    tokens: Tensor
    x: Axis
    y: Axis

    def cross_attention_inputs(self) -> dict:
        """What cross-attention reads."""
        return {"memory": self}


class RowColumnAttention(nn.Module):
    """Weights over W columns times weights over H rows, in place of weights over H x W tokens.

    ``in_proj`` stacks the projections of the queries along x and along y, of the keys along x and
    along y, and of the values.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(5 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(5 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, query_x: Tensor, query_y: Tensor, memory: FeatureMap
    ) -> Tensor:
        """Attention output (B, N, C) of queries (B, N, C) whose x and y are embedded in query_x and
        query_y (B, N, C)."""
        tokens, x, y = memory
        key_x = torch.einsum("bh,bhwc->bwc", y.share, tokens) + x.position
        key_y = torch.einsum("bw,bhwc->bhc", x.share, tokens) + y.position
        inputs = (query + query_x, query + query_y, key_x, key_y, tokens)
        weights, biases = self.in_proj_weight.chunk(5), self.in_proj_bias.chunk(5)
        query_x, query_y, key_x, key_y, values = (  # each (B, ..., heads, C / heads)
            F.linear(*linear).unflatten(-1, (self.num_heads, -1))
            for linear in zip(inputs, weights, biases, strict=True)
        )
        along_x = attention_weights(query_x, key_x, x.hidden)  # (B, heads, N, W)
        along_y = attention_weights(query_y, key_y, y.hidden)  # (B, heads, N, H)
        rows = torch.einsum("bmnw,bhwmd->bmnhd", along_x, values)
        return self.out_proj(torch.einsum("bmnh,bmnhd->bnmd", along_y, rows).flatten(2))


def attention_weights(query: Tensor, key: Tensor, hidden: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) (B, heads, N, S) of (B, N, heads, d) and (B, S, heads, d)."""
    scores = torch.einsum("bnmd,bsmd->bmns", query * query.shape[-1] ** -0.5, key)
    return scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1)
