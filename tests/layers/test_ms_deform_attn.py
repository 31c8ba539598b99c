from __future__ import annotations

import math

import pytest
import torch

from detrex.layers import MultiScaleDeformableAttention, multi_scale_deformable_attention

SHAPES = [(4, 5), (2, 3)]


def bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value (D,) of a level (H, W, D) at pixel coordinates, zero outside, by the definition."""
    height, width, dim = level.shape
    total = torch.zeros(dim, dtype=level.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def test_sampling_equals_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    batch, queries, heads, dim, points = 2, 3, 2, 4, 2
    tokens = sum(h * w for h, w in SHAPES)
    options = dict(generator=generator, dtype=torch.float64)
    value = torch.randn(batch, tokens, heads, dim, **options)
    # also places outside the image
    locations = torch.rand(batch, queries, heads, len(SHAPES), points, 2, **options) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(SHAPES), points, **options)
    expected = torch.zeros(batch, queries, heads, dim, dtype=torch.float64)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                first = 0
                for i, (height, width) in enumerate(SHAPES):
                    level = value[b, first : first + height * width, h].view(height, width, dim)
                    first += height * width
                    for p in range(points):
                        x, y = (locations[b, q, h, i, p] * torch.tensor([width, height])).tolist()
                        sample = bilinear(level, x - 0.5, y - 0.5)
                        expected[b, q, h] += weights[b, q, h, i, p] * sample
    out = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    torch.testing.assert_close(out, expected.flatten(2))


@pytest.mark.parametrize("size", [2, 4])
def test_padding_does_not_reach_the_output(size: int) -> None:
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(16, 2, 2, 2, dropout=0.0, batch_first=True)
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.5)
    value = torch.randn(1, 26, 16)
    inputs = dict(
        query=torch.randn(1, 7, 16),
        reference_points=torch.rand(1, 7, 2, size),
        spatial_shapes=torch.tensor(SHAPES),
        key_padding_mask=torch.rand(1, 26) > 0.5,
    )
    changed = value + inputs["key_padding_mask"][..., None] * torch.randn(1, 26, 16)
    assert torch.equal(attention(value=value, **inputs), attention(value=changed, **inputs))
    inputs["key_padding_mask"] = None
    assert not torch.equal(attention(value=value, **inputs), attention(value=changed, **inputs))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="10 is not divisible by num_heads 4"):
        MultiScaleDeformableAttention(embed_dim=10, num_heads=4)
