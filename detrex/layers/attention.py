"""Dense attention with DETR's convention: positions are added to queries and keys, not values.

Legend: B images, N queries, M keys, C channels. Masks are bool, True = must not attend.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments


class Rows(NamedTuple):
    """``size`` consecutive queries of a self-attention: equal ``blocks`` that see only themselves.

    With a ``mask`` (size, N), True = must not attend, they are one block that also sees other
    queries. A mask of floats (B, heads, size, N), or for blocks (B * blocks, heads, size / blocks,
    size / blocks), is added to the attention logits. A tuple of ``Rows`` stands for an (N, N)
    mask; the logits that it hides are not computed.
    """

    size: int
    blocks: int = 1
    mask: Tensor | None = None


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

    attn_mask (N, M), bool or floats that are added to the logits, or :class:`Rows`, which take no
    padding mask; key_padding_mask (B, M). ``fused=False`` stores the (N, M) weights, for accuracy:
    where they are nearly uniform, as in a first layer, the gradients cancel, and a fused kernel has
    the larger rounding error.
    """
    if isinstance(attn_mask, tuple):
        products = split_rows(attn_mask, query, key, value)
    else:
        products = [(query, key, value, join_masks(attn_mask, key_padding_mask), 1)]
    outputs = []
    for *inputs, mask, blocks in products:
        q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in inputs)
        if fused:
            allowed = mask if mask is None or mask.is_floating_point() else ~mask
            out = F.scaled_dot_product_attention(q, k, v, allowed, dropout)
        else:
            out = stepwise_attention(q, k, v, mask, dropout)
        out = out.transpose(1, 2).flatten(2)
        outputs.append(out if blocks == 1 else out.unflatten(0, (-1, blocks)).flatten(1, 2))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def split_rows(
    rows: tuple[Rows, ...], query: Tensor, key: Tensor, value: Tensor
) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None, int]]:
    """Queries, keys, values, mask and number of blocks for each of the rows; blocks are stacked
    along the batch."""
    products, sizes = [], [row.size for row in rows]
    for row, *inputs in zip(rows, *(x.split(sizes, 1) for x in (query, key, value)), strict=True):
        if row.mask is not None and row.mask.shape[-1] == key.shape[1]:
            products.append((inputs[0], key, value, row.mask, 1))
        elif row.blocks == 1:
            products.append((*inputs, row.mask, 1))
        else:
            blocks = (x.unflatten(1, (row.blocks, -1)).flatten(0, 1) for x in inputs)
            products.append((*blocks, row.mask, row.blocks))
    return products


def stepwise_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """``scaled_dot_product_attention`` with stored weights; a bool mask is True = not attended."""
    weights = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None and mask.is_floating_point():
        weights = weights + mask
    elif mask is not None:
        weights = weights.masked_fill(mask, -torch.inf)
    return F.dropout(weights.softmax(-1), dropout) @ value


def join_masks(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """Both masks as one (..., N, M), of floats if ``attn_mask`` is."""
    if key_padding_mask is None:
        return attn_mask
    padding = key_padding_mask[:, None, None]  # (B, 1, 1, M)
    if attn_mask is None:
        return padding
    if attn_mask.is_floating_point():
        return torch.where(padding, -torch.inf, attn_mask)
    return padding | attn_mask


def keys_of(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    query_pos: Tensor | None,
    key_pos: Tensor | None,
    attn_mask: Tensor | tuple[Rows, ...] | None,
    key_padding_mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys, values and positions of the keys, which default to those of the queries.

    Raises:
        ValueError: ``attn_mask`` is :class:`Rows`, for anything but self-attention without padding.
    """
    key = query if key is None else key
    value = key if value is None else value
    # As upstream: a memory with as many tokens as there are queries gets their positions, too.
    if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
        key_pos = query_pos
    if isinstance(attn_mask, tuple):
        if key is not query or key_pos is not query_pos or key_padding_mask is not None:
            raise ValueError(
                "attn_mask as Rows is for self-attention without padding: leave key, key_pos "
                "and key_padding_mask out, or give an (N, M) mask"
            )
    return key, value, key_pos


def project(
    attention: nn.MultiheadAttention, query: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Projected queries, keys and values (B, N, C) of PyTorch's self-attention; query (B, N, C)
    includes its position.

    Raises:
        ValueError: the attention has no bias, or keys or values of another width.
    """
    if attention.in_proj_weight is None or attention.in_proj_bias is None:
        raise ValueError("attn_mask as Rows needs bias=True and neither kdim nor vdim")
    sizes = [2 * attention.embed_dim, attention.embed_dim]
    weights, biases = attention.in_proj_weight.split(sizes), attention.in_proj_bias.split(sizes)
    query_key, value = (F.linear(*x) for x in zip((query, value), weights, biases, strict=True))
    return *query_key.chunk(2, -1), value


class MultiheadAttention(nn.Module):
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

    def forward(  # frozen: upstream's signature
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
        """``identity`` (default: the query) plus the attention's output.

        Raises:
            ValueError: rows for anything but self-attention without padding.
        """
        masks = dict(attn_mask=attn_mask, key_padding_mask=key_padding_mask)
        key, value, key_pos = keys_of(query, key, value, query_pos, key_pos, **masks)
        placed = query if query_pos is None else query + query_pos
        if isinstance(attn_mask, tuple):
            dropout = self.attn.dropout if self.training else 0.0
            inputs = project(self.attn, self.swap(placed), self.swap(value))
            options = (self.num_heads, attn_mask, None, dropout, self.fused)
            out = self.swap(self.attn.out_proj(masked_attention(*inputs, *options)))
        else:
            key = key if key_pos is None else key + key_pos
            weights = dict(need_weights=not self.fused, average_attn_weights=False)
            out, _ = self.attn(placed, key, value, **masks, **weights)
        return (query if identity is None else identity) + self.proj_drop(out)

    def swap(self, x: Tensor) -> Tensor:
        """From the layout of the inputs to (B, N, C), and back."""
        return x if self.batch_first else x.transpose(0, 1)
