"""Row-column decoupled attention against equations 6-8 of Anchor DETR, query by query."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from projects.anchor_detr.modeling.row_column_attention import (
    Axis,
    FeatureMap,
    RowColumnAttention,
)

B, N, H, W, C, HEADS = 2, 3, 4, 5, 8, 2
ROWS, COLUMNS = (4, 3), (3, 5)  # of each image; the rest is padding, below and to the right


def axis(size: int, inside: tuple[int, ...]) -> Axis:
    hidden = torch.arange(size) >= torch.tensor(inside)[:, None]
    return Axis(torch.randn(B, size, C), hidden, torch.rand(B, size).softmax(1))


def build() -> tuple[RowColumnAttention, list[Tensor], FeatureMap]:
    """The attention, contents and places of queries, and a feature map."""
    torch.manual_seed(0)
    attention = RowColumnAttention(C, HEADS)
    nn.init.normal_(attention.in_proj_bias)
    memory = FeatureMap(torch.randn(B, H, W, C), axis(W, COLUMNS), axis(H, ROWS))
    return attention, list(torch.randn(3, B, N, C)), memory


def plain(attention: RowColumnAttention, queries: list[Tensor], memory: FeatureMap) -> Tensor:
    """Z is the sum over x of A_x V, the output the sum over y of A_y Z."""
    tokens, x, y = memory
    inputs = (
        queries[0] + queries[1],
        queries[0] + queries[2],
        (tokens * y.share[:, :, None, None]).sum(1) + x.position,
        (tokens * x.share[:, None, :, None]).sum(2) + y.position,
        tokens,
    )
    weights, biases = attention.in_proj_weight.chunk(5), attention.in_proj_bias.chunk(5)
    # Each projection in heads: (B, ..., HEADS, C / HEADS).
    q_x, q_y, k_x, k_y, v = (
        (i @ w.T + b).unflatten(-1, (HEADS, -1))
        for i, w, b in zip(inputs, weights, biases, strict=True)
    )
    out = torch.zeros(B, N, HEADS, C // HEADS)
    for b, n, m in torch.cartesian_prod(*map(torch.arange, (B, N, HEADS))).tolist():
        a_x = (k_x[b, : COLUMNS[b], m] @ q_x[b, n, m] / (C / HEADS) ** 0.5).softmax(0)
        a_y = (k_y[b, : ROWS[b], m] @ q_y[b, n, m] / (C / HEADS) ** 0.5).softmax(0)
        for h, weight in enumerate(a_y):
            z = sum(a * v[b, h, w, m] for w, a in enumerate(a_x))
            out[b, n, m] += weight * z
    return out.flatten(2) @ attention.out_proj.weight.T + attention.out_proj.bias


def test_attention_equals_the_plain_computation() -> None:
    attention, queries, memory = build()
    expected = plain(attention, queries, memory)
    torch.testing.assert_close(attention(*queries, memory), expected)


def test_padding_that_has_no_share_is_not_seen() -> None:
    attention, queries, memory = build()
    x, y = (
        a._replace(share=(~a.hidden).float() / (~a.hidden).sum(1, keepdim=True))
        for a in (memory.x, memory.y)
    )
    before = attention(*queries, FeatureMap(memory.tokens, x, y))
    padding = x.hidden[:, None] | y.hidden[:, :, None]  # (B, H, W)
    other = memory.tokens.masked_fill(padding[..., None], 9.0)
    assert not torch.equal(other, memory.tokens)
    torch.testing.assert_close(attention(*queries, FeatureMap(other, x, y)), before)
