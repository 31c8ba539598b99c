"""Attention that projects content and position separately.

Source: Conditional DETR (Meng et al. 2021), section 3.3.
Legend: B images, N queries, M keys, C channels. Masks are bool, True = must not attend; the one
between queries and keys may be of floats, which are added to the attention logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detrex.utils.arguments import keep_arguments

from .attention import Rows, keys_of, masked_attention


class _ConditionalAttention(nn.Module):
    """The projections. Tensors are (N, B, C), or (B, N, C) with ``batch_first``."""

    queries = ("query_content_proj", "query_pos_proj")

    @keep_arguments
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        others = ("key_content_proj", "key_pos_proj", "value_proj", "out_proj")
        for name in (*self.queries, *others):
            self.add_module(name, nn.Linear(embed_dim, embed_dim))
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.batch_first = batch_first

    def swap(self, x: Tensor) -> Tensor:
        """From the layout of the inputs to (N, B, C), and back."""
        return x.transpose(0, 1) if self.batch_first else x

    def mix(self, query: Tensor, key: Tensor, value: Tensor, **masks) -> Tensor:
        """Attention output (N, B, C) of projected queries, keys and values (N, B, C)."""
        inputs = (x.transpose(0, 1) for x in (query, key, value))
        options = dict(
            num_heads=self.num_heads,
            dropout=self.attn_drop.p if self.training else 0.0,
            fused=query.device.type != "cpu",  # memory is scarce on a GPU, see masked_attention
        )
        out = masked_attention(*inputs, **options, **masks)
        return self.proj_drop(self.out_proj(out.transpose(0, 1)))


class ConditionalSelfAttention(_ConditionalAttention):
    """Self-attention in which content and position are projected separately, then added."""

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
        inputs = (query, key, value, query_pos, key_pos)
        # Sequence first, as upstream: the gradients of the position projections nearly cancel in
        # the first layer, and the order in which they are summed decides what is left.
        content, key, value, query_pos, key_pos = (self.swap(x).contiguous() for x in inputs)
        queries = self.query_content_proj(content) + self.query_pos_proj(query_pos)
        keys = self.key_content_proj(key) + self.key_pos_proj(key_pos)
        out = self.swap(self.mix(queries, keys, self.value_proj(value), **masks))
        return (query if identity is None else identity) + out


class ConditionalCrossAttention(_ConditionalAttention):
    """Cross-attention whose logits are content . content + position . position, head by head.

    The position of a query is ``query_sine_embed``. In the first layer, before the queries have
    seen the image, ``query_pos`` and ``key_pos`` are also added to the contents.
    """

    queries = ("query_content_proj", "query_pos_proj", "query_pos_sine_proj")

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        query_sine_embed: Tensor | None = None,
        is_first_layer: bool = False,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        content, key_content = self.query_content_proj(query), self.key_content_proj(key)
        place, key_place = self.query_pos_sine_proj(query_sine_embed), self.key_pos_proj(key_pos)
        if is_first_layer:
            content, key_content = content + self.query_pos_proj(query_pos), key_content + key_place
        queries = self._side_by_side(content, place)
        keys = self._side_by_side(key_content, key_place)
        values = self.value_proj(key if value is None else value)
        masks = dict(attn_mask=attn_mask, key_padding_mask=key_padding_mask)
        out = self.mix(*map(self.swap, (queries, keys, values)), **masks)
        return (query if identity is None else identity) + self.swap(out)

    def _side_by_side(self, content: Tensor, place: Tensor) -> Tensor:
        """Both (..., C) joined to (..., 2C), so that each head gets its channels of both."""
        heads = (x.unflatten(-1, (self.num_heads, -1)) for x in (content, place))
        return torch.cat(tuple(heads), -1).flatten(-2)
