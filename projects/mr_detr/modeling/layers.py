"""Decoder layers of Mr. DETR, which know the route they are on.

"" is the route of inference; "o2m" has instruction tokens in self-attention, and a norm of its own
behind it; "sep" has a feed-forward block of its own. All else is shared.

Legend: B images, N queries, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.layers import DecoderLayer, MultiheadAttention
from detrex.layers.attention import Rows
from detrex.layers.transformer import copies
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import DeformableDecoder, Memory
from detrex.utils.arguments import keep_arguments

INSTRUCTIONS = 10  # tokens of each layer


class RoutedAttention(MultiheadAttention):
    """Self-attention with its norm; on the route "o2m" the first group sees learned tokens, too."""

    def __init__(self, embed_dim: int, num_heads: int, attn_drop: float = 0.0) -> None:
        super().__init__(embed_dim, num_heads, attn_drop, batch_first=True)
        self.instruction_o2m = nn.Embedding(INSTRUCTIONS, embed_dim)
        self.instruction_o2m_pos = nn.Embedding(INSTRUCTIONS, embed_dim)
        self.norm_o2o = nn.LayerNorm(embed_dim)
        self.norm_o2m = nn.LayerNorm(embed_dim)

    def forward(
        self, x: Tensor, query_pos: Tensor, attn_mask: tuple[Rows, ...], route: str
    ) -> Tensor:
        """Contents x and positions query_pos (B, N, C)."""
        if route != "o2m":
            return self.norm_o2o(super().forward(x, query_pos=query_pos, attn_mask=attn_mask))
        tokens = (self.instruction_o2m.weight, self.instruction_o2m_pos.weight)
        x, query_pos = (
            torch.cat([token.expand(x.shape[0], -1, -1), t], 1)
            for token, t in zip(tokens, (x, query_pos), strict=True)
        )
        rows = behind_tokens(attn_mask, INSTRUCTIONS)
        out = super().forward(x, query_pos=query_pos, attn_mask=rows)
        return self.norm_o2m(out[:, INSTRUCTIONS:])


def behind_tokens(rows: tuple[Rows, ...], count: int) -> tuple[Rows, ...]:
    """The rows with ``count`` tokens in front, which the first group sees and the others do not."""

    def hide(row: Rows) -> Rows:
        if row.mask is None:
            return row
        hidden = -torch.inf if row.mask.is_floating_point() else True
        return row._replace(mask=F.pad(row.mask, (count, 0), value=hidden))

    first, *others = rows
    return (first._replace(size=first.size + count), *map(hide, others))


class RoutedLinear(nn.Module):
    """Two linear layers, one of them for the route "sep"."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.linear_sep = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, route: str) -> Tensor:
        return (self.linear_sep if route == "sep" else self.linear)(x)


class RoutedFFN(nn.Module):
    """The feed-forward block, residual included, with its weights twice."""

    def __init__(self, embed_dim: int, feedforward_dim: int, ffn_drop: float = 0.0) -> None:
        super().__init__()
        first = nn.ModuleDict({"linear": RoutedLinear(embed_dim, feedforward_dim)})  # as released
        self.layers = nn.ModuleList([first, RoutedLinear(feedforward_dim, embed_dim)])
        self.dropout = nn.Dropout(ffn_drop)

    def forward(self, x: Tensor, route: str) -> Tensor:
        hidden = self.dropout(F.relu(self.layers[0]["linear"](x, route)))
        return x + self.dropout(self.layers[1](hidden, route))


class RoutedLayer(DecoderLayer):
    """A Deformable DETR layer that tells its self-attention and feed-forward block the route."""

    def __init__(self, attention: nn.Module, cross_attention: nn.Module, ffn: nn.Module) -> None:
        super().__init__(attention, cross_attention, ffn)
        self.norms = copies(nn.LayerNorm(self.embed_dim), 2)  # the attention has the first

    def forward(
        self,
        x: Tensor,
        query_pos: Tensor,
        attn_mask: tuple[Rows, ...],
        route: str,
        **memory: object,
    ) -> Tensor:
        attend, look = self.attentions
        x = attend(x, query_pos=query_pos, attn_mask=attn_mask, route=route)
        x = self.norms[0](look(x, query_pos=query_pos, **memory))
        return self.norms[1](self.ffns[0](x, route))


class RoutedDecoder(DeformableDecoder):
    """Deformable decoder of :class:`RoutedLayer`."""

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        **deformable,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            attn_dropout=attn_dropout,
            ffn_dropout=ffn_dropout,
            **deformable,
        )
        self.layers = nn.ModuleList(
            RoutedLayer(
                RoutedAttention(embed_dim, num_heads, attn_dropout),
                layer.attentions[1],
                RoutedFFN(embed_dim, feedforward_dim, ffn_dropout),
            )
            for layer in self.layers
        )

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor | str]:
        return {**super().position(i, queries, memory), "route": queries.route}
