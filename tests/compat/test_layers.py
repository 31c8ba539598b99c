"""Layers in the ways in which other people's transformers use them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrex.layers import (
    FFN,
    BaseTransformerLayer,
    ConditionalCrossAttention,
    ConditionalSelfAttention,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    TransformerLayerSequence,
)
from detrex.layers.attention import masked_attention
from detrex.modeling.transformer import DeformableEncoder, Memory

C = 8


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def masks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A mask of bools, the same of floats, and one of padding."""
    forbidden = torch.rand(5, 5) < 0.4
    forbidden[:, 0] = False
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return forbidden, torch.zeros(5, 5).masked_fill(forbidden, -torch.inf), padding


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "kind", [ConditionalSelfAttention, ConditionalCrossAttention, MultiheadAttention]
)
def test_a_mask_may_be_of_floats(kind: type[nn.Module], padded: bool) -> None:
    attention, x = kind(C, 2, batch_first=True), torch.randn(2, 5, C)
    forbidden, added, padding = masks()
    inputs = dict(query_pos=x, key_pos=x, key_padding_mask=padding if padded else None)
    inputs |= {"query_sine_embed": x} if kind is ConditionalCrossAttention else {}
    expected = attention(x, x, x, attn_mask=forbidden, **inputs)
    torch.testing.assert_close(attention(x, x, x, attn_mask=added, **inputs), expected)
    assert not torch.allclose(attention(x, x, x, attn_mask=added - added, **inputs), expected)


@pytest.mark.parametrize("fused", [False, True])
def test_floats_of_a_mask_are_added_to_the_weights(fused: bool) -> None:
    query, key, value = torch.randn(3, 2, 5, C)
    bias, (_, _, padding) = torch.randn(5, 5), masks()
    scores = query @ key.mT / C**0.5 + bias
    expected = scores.masked_fill(padding[:, None], -torch.inf).softmax(-1) @ value
    out = masked_attention(query, key, value, 1, bias, padding, fused=fused)
    torch.testing.assert_close(out, expected)


def test_layers_of_a_sequence_need_no_width() -> None:
    stack = TransformerLayerSequence(nn.Linear(C, C), num_layers=2)
    assert len(stack.layers) == 2 and stack.embed_dim is None


def test_residuals_around_a_feed_forward_that_comes_first_are_upstreams() -> None:
    order = ("norm", "ffn", "norm", "self_attn")
    attention = MultiheadAttention(C, 2, batch_first=True)
    layer = BaseTransformerLayer(attention, FFN(C, 16), nn.LayerNorm(C), order)
    x = torch.randn(2, 5, C)
    inner = layer.norms[1](layer.ffns[0](layer.norms[0](x), x))
    expected = layer.attentions[0](inner, inner, inner, x)  # from x, not behind the ffn
    torch.testing.assert_close(layer(x), expected)


def test_attributes_that_subclasses_read() -> None:
    attention = ConditionalSelfAttention(C, 2, attn_drop=0.5)
    assert attention.attn_drop.p == 0.5  # called by a forward of its own
    assert MultiScaleDeformableAttention(C, 2, img2col_step=32).im2col_step == 32


class UpstreamsEncoder(DeformableEncoder):
    """A subclass in upstream's style: it loops over the layers with upstream's call."""

    def forward(self, query, key, value, query_pos=None, query_key_padding_mask=None, **kwargs):
        for layer in self.layers:
            query = layer(
                query,
                key,
                value,
                query_pos=query_pos,
                attn_masks=[None],
                query_key_padding_mask=query_key_padding_mask,
                **kwargs,
            )
        return query


def test_layers_of_a_subclass_take_upstreams_call() -> None:
    options = dict(embed_dim=C, num_heads=2, feedforward_dim=16, num_layers=2, num_feature_levels=1)
    ours, theirs = DeformableEncoder(**options).eval(), UpstreamsEncoder(**options).eval()
    theirs.load_state_dict(ours.state_dict())
    features, mask = torch.randn(2, C, 3, 4), torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[1, 2:] = True
    memory, position = Memory.of_levels([features], [mask]), torch.randn(2, 12, C)
    points = memory.on_levels(memory.pixel_centres)
    inputs = dict(spatial_shapes=memory.shapes, reference_points=points)
    out = theirs(memory.tokens, None, None, position, memory.mask, **inputs)
    torch.testing.assert_close(out, ours(memory, position))
    assert theirs.layers[0].num_attn == 1
