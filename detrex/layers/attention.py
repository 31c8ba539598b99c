"""Dense attention with DETR's convention: positions are added to queries and keys, not values."""

from __future__ import annotations

from torch import Tensor, nn


def with_position(x: Tensor, position: Tensor | None) -> Tensor:
    """Tokens plus the embedding of their places, if there is one."""
    return x if position is None else x + position


class MultiheadAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` with positions and residual: (B, N, C) or (N, B, C).

    ``attn_mask`` (N, M) and ``key_padding_mask`` (B, M) are bool, True = must not attend.
    ``fused=False`` stores the (N, M) weights, for digits: where these are uniform (equal contents)
    the gradients cancel, and a fused kernel leaves more rounding behind.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        batch_first: bool = False,
        fused: bool = True,
        **kwargs,
    ) -> None:
        super().__init__()
        self.fused = fused
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.batch_first = batch_first
        self.attn = nn.MultiheadAttention(
            embed_dim, num_heads, dropout=attn_drop, batch_first=batch_first, **kwargs
        )
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        key = query if key is None else key
        if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
            key_pos = query_pos
        out = self.attn(
            with_position(query, query_pos),
            with_position(key, key_pos),
            key if value is None else value,
            attn_mask=attn_mask,
            key_padding_mask=key_padding_mask,
            need_weights=not self.fused,
            average_attn_weights=False,
        )[0]
        return (query if identity is None else identity) + self.proj_drop(out)
