"""Dense attention with DETR's convention: positions are added to queries and keys, not values.

Legend: B images, N queries, M keys, C channels. Masks are bool, True = must not attend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments


class Rows(NamedTuple):
    """Consecutive queries of a self-attention: ``blocks`` equal blocks that see only themselves.

    With a ``mask`` (size, N) they are one block that sees whatever the mask leaves of all queries.
    A tuple of these stands for the (N, N) mask, whose blind parts are then never computed.
    """

    size: int
    blocks: int = 1
    mask: Tensor | None = None


def with_position(x: Tensor, position: Tensor | None) -> Tensor:
    """Tokens plus the embedding of their places, if there is one."""
    return x if position is None else x + position


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    attn_mask: Tensor | tuple[Rows, ...] | None = None,
    key_padding_mask: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V per head: (B, N, C), (B, M, C), (B, M, D) to (B, N, D).

    attn_mask (N, M), bool or of floats that are added to the weights, or rows, which take no
    padding mask; key_padding_mask (B, M). ``fused=False`` stores the (N, M) weights, for digits:
    where these are nearly uniform, as in a first layer, the gradients cancel, and a fused kernel
    leaves more rounding behind.
    """
    if isinstance(attn_mask, tuple):
        options = dict(num_heads=num_heads, dropout=dropout, fused=fused)
        return _row_by_row(partial(masked_attention, **options), attn_mask, query, key, value)
    query, key, value = (
        x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value)
    )
    mask = _both(attn_mask, key_padding_mask)
    is_added = mask is not None and mask.is_floating_point()
    if fused:
        allowed = mask if mask is None or is_added else ~mask
        out = F.scaled_dot_product_attention(query, key, value, allowed, dropout)
    else:
        weights = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
        if mask is not None:
            weights = weights + mask if is_added else weights.masked_fill(mask, -torch.inf)
        out = F.dropout(weights.softmax(-1), dropout) @ value
    return out.transpose(1, 2).flatten(2)


def _both(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """One mask (..., N, M) of both, of floats if the first is."""
    if key_padding_mask is None:
        return attn_mask
    padding = key_padding_mask[:, None, None]  # (B, 1, 1, M)
    if attn_mask is None:
        return padding
    if attn_mask.is_floating_point():
        return torch.where(padding, -torch.inf, attn_mask)
    return padding | attn_mask


def _row_by_row(
    attend: Callable, rows: Sequence[Rows], query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """``attend(query, key, value, attn_mask=...)`` for each of the rows; blocks are a batch."""
    parts = []
    sizes = [part.size for part in rows]
    for part, *own in zip(rows, *(x.split(sizes, 1) for x in (query, key, value)), strict=True):
        if part.mask is not None:
            parts.append(attend(own[0], key, value, attn_mask=part.mask))
            continue
        blocks = (x.unflatten(1, (part.blocks, -1)).flatten(0, 1) for x in own)
        parts.append(attend(*blocks).unflatten(0, (-1, part.blocks)).flatten(1, 2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def self_attention(
    own: nn.MultiheadAttention, places: Tensor, value: Tensor, rows: tuple[Rows, ...], fused: bool
) -> Tensor:
    """PyTorch's attention among the places, which are queries and keys: one product for both.

    Raises:
        ValueError: the attention has no bias, or its own widths of keys and values.
    """
    if own.in_proj_weight is None or own.in_proj_bias is None:
        raise ValueError("attn_mask as Rows needs bias=True and neither kdim nor vdim")
    sizes = [2 * own.embed_dim, own.embed_dim]
    weights, biases = own.in_proj_weight.split(sizes), own.in_proj_bias.split(sizes)
    both, seen = (F.linear(*x) for x in zip((places, value), weights, biases, strict=True))
    inputs = [x if own.batch_first else x.transpose(0, 1) for x in (*both.chunk(2, -1), seen)]
    dropout = own.dropout if own.training else 0.0
    shape = dict(num_heads=own.num_heads, dropout=dropout, fused=fused)
    out = own.out_proj(masked_attention(*inputs, attn_mask=rows, **shape))
    return out if own.batch_first else out.transpose(0, 1)


class Attended(NamedTuple):
    """Contents (B, N, C) or (N, B, C) of queries, keys and values, and the places of the first two,
    of the same shape."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_pos: Tensor | None
    key_pos: Tensor | None


class ResidualAttention(nn.Module):
    """Upstream's arguments of an attention, and the residual: (B, N, C), or (N, B, C).

    A subclass computes what is added in :meth:`attend`.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | tuple[Rows, ...] | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        """``identity`` (default: the query) plus what the queries find among the keys.

        Raises:
            ValueError: rows for anything but self-attention without padding.
        """
        key = query if key is None else key
        value = key if value is None else value
        # As upstream: also a memory that happens to be as long as the queries gets their places.
        if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
            key_pos = query_pos
        if isinstance(attn_mask, tuple):
            if key is not query or key_pos is not query_pos or key_padding_mask is not None:
                raise ValueError(
                    "attn_mask as Rows is for self-attention without padding: leave key, key_pos "
                    "and key_padding_mask out, or give an (N, M) mask"
                )
        masks = dict(attn_mask=attn_mask, key_padding_mask=key_padding_mask)
        out = self.attend(Attended(query, key, value, query_pos, key_pos), **masks)
        return (query if identity is None else identity) + out

    def attend(self, inputs: Attended, **masks: Tensor | tuple[Rows, ...] | None) -> Tensor:
        """What :meth:`forward` adds to the residual; ``masks`` are its last two arguments."""
        raise NotImplementedError


class MultiheadAttention(ResidualAttention):
    """``torch.nn.MultiheadAttention`` with positions and residual: (B, N, C) or (N, B, C).

    ``attn_mask`` (N, M) and ``key_padding_mask`` (B, M) are bool, True = must not attend; in
    self-attention the mask can be given as :class:`Rows`. ``fused``: see :func:`masked_attention`.
    """

    @keep_arguments
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

    def attend(self, inputs: Attended, **masks: Tensor | tuple[Rows, ...] | None) -> Tensor:
        query, key, value, query_pos, key_pos = inputs
        places = with_position(query, query_pos)
        if isinstance(masks["attn_mask"], tuple):
            return self.proj_drop(
                self_attention(self.attn, places, value, masks["attn_mask"], self.fused)
            )
        weights = dict(need_weights=not self.fused, average_attn_weights=False)
        out, _ = self.attn(places, with_position(key, key_pos), value, **masks, **weights)
        return self.proj_drop(out)
