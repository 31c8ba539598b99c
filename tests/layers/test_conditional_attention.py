"""Conditional attention against a computation head by head, and its two layouts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detrex.layers import ConditionalCrossAttention, ConditionalSelfAttention, MultiheadAttention
from detrex.layers.conditional_attention import masked_attention

C, HEADS = 8, 2


def inputs(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, n, C, generator=generator) for n in lengths]


def plain(query, key, value, forbidden=None) -> torch.Tensor:
    """One image, head by head: query (N, HEADS, d), key (M, HEADS, d), value (M, C)."""
    heads = []
    for h, v in enumerate(value.chunk(HEADS, -1)):
        scores = query[:, h] @ key[:, h].T / query.shape[-1] ** 0.5
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, -torch.inf)
        heads.append(scores.softmax(-1) @ v)
    return torch.cat(heads, -1)


def split(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (HEADS, -1))


def test_self_attention_equals_the_plain_computation() -> None:
    attention = ConditionalSelfAttention(C, HEADS, batch_first=True).eval()
    x, place = inputs(5, 5)
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    mask.fill_diagonal_(False)
    out = attention(x, query_pos=place, attn_mask=mask)
    for image in range(2):
        q = attention.query_content_proj(x[image]) + attention.query_pos_proj(place[image])
        k = attention.key_content_proj(x[image]) + attention.key_pos_proj(place[image])
        expected = plain(split(q), split(k), attention.value_proj(x[image]), mask)
        torch.testing.assert_close(out[image], x[image] + attention.out_proj(expected))


@pytest.mark.parametrize("first", [True, False])
def test_cross_attention_equals_the_plain_computation(first: bool) -> None:
    attention = ConditionalCrossAttention(C, HEADS, batch_first=True).eval()
    x, place, sine, key, key_place, identity = inputs(4, 4, 4, 6, 6, 4)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    out = attention(
        x,
        key,
        identity=identity,
        query_pos=place,
        key_pos=key_place,
        query_sine_embed=sine,
        is_first_layer=first,
        key_padding_mask=padding,
    )
    for i in range(2):
        q, k = attention.query_content_proj(x[i]), attention.key_content_proj(key[i])
        k_place = attention.key_pos_proj(key_place[i])
        if first:
            q, k = q + attention.query_pos_proj(place[i]), k + k_place
        q_place = attention.query_pos_sine_proj(sine[i])
        q, k = (torch.cat([split(a), split(b)], -1) for a, b in ((q, q_place), (k, k_place)))
        expected = plain(q, k, attention.value_proj(key[i]), padding[i])
        torch.testing.assert_close(out[i], identity[i] + attention.out_proj(expected))


def test_both_layouts_agree() -> None:
    batch_first = ConditionalSelfAttention(C, HEADS, batch_first=True).eval()
    sequence_first = ConditionalSelfAttention(C, HEADS).eval()
    sequence_first.load_state_dict(batch_first.state_dict())
    x, place = inputs(5, 5)
    out = sequence_first(x.transpose(0, 1), query_pos=place.transpose(0, 1))
    torch.testing.assert_close(out.transpose(0, 1), batch_first(x, query_pos=place))


def test_stepwise_attention_equals_the_fused_kernel() -> None:
    query, key, value = inputs(4, 6, 6)
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, 3:] = True
    heads = [split(x).transpose(1, 2) for x in (query, key, value)]
    fused = F.scaled_dot_product_attention(*heads, ~mask).transpose(1, 2).flatten(2)
    torch.testing.assert_close(masked_attention(query, key, value, HEADS, mask), fused)


def test_dense_attention_is_the_same_fused_or_not() -> None:
    fused = MultiheadAttention(C, HEADS, batch_first=True).eval()
    stepwise = MultiheadAttention(C, HEADS, batch_first=True, fused=False).eval()
    stepwise.load_state_dict(fused.state_dict())
    x, place = inputs(5, 5)
    mask = torch.eye(5, dtype=torch.bool)
    results = (attention(x, query_pos=place, attn_mask=mask) for attention in (fused, stepwise))
    torch.testing.assert_close(*results)


def test_dropout_is_used_in_training_only() -> None:
    attention = ConditionalSelfAttention(C, HEADS, attn_drop=0.5, batch_first=True)
    x, place = inputs(5, 5)
    once, twice = (attention.train()(x, query_pos=place) for _ in range(2))
    assert not torch.equal(once, twice)
    once, twice = (attention.eval()(x, query_pos=place) for _ in range(2))
    assert torch.equal(once, twice)
