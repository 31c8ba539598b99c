"""Position embeddings, dense attention and transformer layers against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from detrex.layers import (
    FFN,
    MLP,
    BaseTransformerLayer,
    MultiheadAttention,
    PositionEmbeddingSine,
    get_sine_pos_embed,
)
from detrex.utils import inverse_sigmoid


def sines(angle: float, count: int) -> list[float]:
    values = []
    for i in range(count):
        frequency = 10000 ** (2 * (i // 2) / count)
        values.append((math.cos if i % 2 else math.sin)(angle / frequency))
    return values


def test_sine_embedding_of_a_padded_image() -> None:
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[:, :3, :5] = False
    embedding = PositionEmbeddingSine(num_pos_feats=8, normalize=True, offset=-0.5)(mask)
    y, x = (1 + 0.5) / (3 + 1e-6) * 2 * math.pi, (2 + 0.5) / (5 + 1e-6) * 2 * math.pi
    expected = torch.tensor(sines(y, 8) + sines(x, 8))
    torch.testing.assert_close(embedding[0, :, 1, 2], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("exchange", [True, False])
def test_sine_embedding_of_coordinates(exchange: bool) -> None:
    box = [0.1, 0.2, 0.3, 0.4]
    order = [0.2, 0.1, 0.3, 0.4] if exchange else box
    expected = torch.tensor([v for c in order for v in sines(c * 2 * math.pi, 6)])
    embedding = get_sine_pos_embed(torch.tensor(box), 6, exchange_xy=exchange)
    torch.testing.assert_close(embedding, expected, atol=1e-6, rtol=0)


def test_inverse_sigmoid_stops_at_eps() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0])
    end = math.log(1 / 1e-3)
    expected = torch.tensor([-end, -end, math.log(1 / 3), end, end])
    torch.testing.assert_close(inverse_sigmoid(x), expected)


def plain_attention(module: MultiheadAttention, query, key, value, mask) -> torch.Tensor:
    """Multi-head attention written out, (B, N, C)."""
    attention, heads = module.attn, module.num_heads
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (
        (x @ w.T + b).unflatten(-1, (heads, -1)).transpose(1, 2)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    out = scores.masked_fill(mask, -torch.inf).softmax(-1) @ v
    return attention.out_proj(out.transpose(1, 2).flatten(2))


def test_attention_equals_the_formula() -> None:
    torch.manual_seed(0)
    module = MultiheadAttention(8, 2, batch_first=True)
    x, position, mask = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.rand(5, 5) > 0.7
    mask.fill_diagonal_(False)
    expected = x + plain_attention(module, x + position, x + position, x, mask)
    out = module(x, query_pos=position, attn_mask=mask)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_layer_runs_its_operations_in_order(pre_norm: bool) -> None:
    torch.manual_seed(0)
    order = (
        ("norm", "self_attn", "norm", "ffn") if pre_norm else ("self_attn", "norm", "ffn", "norm")
    )
    layer = BaseTransformerLayer(
        MultiheadAttention(8, 2, batch_first=True), FFN(8, 16), nn.LayerNorm(8), order
    )
    (attention,), (ffn,), (norm1, norm2) = layer.attentions, layer.ffns, layer.norms
    x = torch.randn(2, 5, 8)
    nothing = torch.zeros(5, 5, dtype=torch.bool)
    if pre_norm:
        y = norm1(x)
        y = x + plain_attention(attention, y, y, y, nothing)
        expected = y + ffn.layers(norm2(y))
    else:
        y = norm1(x + plain_attention(attention, x, x, x, nothing))
        expected = norm2(y + ffn.layers(y))
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


def test_mlp_and_ffn_shapes_of_their_layers() -> None:
    assert [tuple(p.shape) for p in MLP(4, 8, 2, 3).parameters()] == [
        (8, 4),
        (8,),
        (8, 8),
        (8,),
        (2, 8),
        (2,),
    ]
    with pytest.raises(ValueError, match="num_fcs >= 2, got 1"):
        FFN(8, 16, num_fcs=1)
