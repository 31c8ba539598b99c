"""The memory of a two-stage transformer, and what it proposes, against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from detrex.modeling.transformer.memory import Memory, Proposals, ProposesBoxes, as_tokens

SHAPES = [(4, 6), (2, 3)]
# Unpadded (height, width) of two images on each level: the second image is padded.
SIZES = [[(4, 6), (3, 4)], [(2, 3), (2, 2)]]


def levels(channels: int = 5) -> tuple[list[Tensor], list[Tensor]]:
    """Random features (2, C, H, W) of two levels, and their padding masks (2, H, W)."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, channels, *shape, generator=generator) for shape in SHAPES]
    masks = [torch.ones(2, *shape, dtype=torch.bool) for shape in SHAPES]
    for mask, sizes in zip(masks, SIZES, strict=True):
        for image, (height, width) in enumerate(sizes):
            mask[image, :height, :width] = False
    return features, masks


def pixels() -> list[tuple[int, int, int]]:
    """(level, row, column) of every token."""
    return [
        (level, row, column)
        for level, (height, width) in enumerate(SHAPES)
        for row in range(height)
        for column in range(width)
    ]


def test_the_tokens_of_all_levels_follow_each_other_row_by_row() -> None:
    features, masks = levels()
    memory = Memory.of_levels(features, masks)
    assert memory.shapes == SHAPES and memory.tokens.shape == (2, 30, 5)
    for token, (level, row, column) in enumerate(pixels()):
        assert torch.equal(memory.tokens[:, token], features[level][:, :, row, column])
        assert torch.equal(memory.mask[:, token], masks[level][:, row, column])


def test_ratios_are_the_unpadded_share_of_width_and_height() -> None:
    memory = Memory.of_levels(*levels())
    for level, (height, width) in enumerate(SHAPES):
        for image, (rows, columns) in enumerate(SIZES[level]):
            ratio = memory.valid_ratios[image, level].tolist()
            assert ratio == pytest.approx([columns / width, rows / height])


def test_cross_attention_reads_tokens_padding_and_shapes() -> None:
    memory = Memory.of_levels(*levels())
    inputs = memory.cross_attention_inputs()
    assert inputs["value"] is memory.tokens and inputs["key_padding_mask"] is memory.mask
    assert inputs["spatial_shapes"] == SHAPES and len(inputs) == 3


@pytest.mark.parametrize("coordinates", [2, 4])
def test_places_of_the_image_are_scaled_to_each_padded_level(coordinates: int) -> None:
    memory = Memory.of_levels(*levels())
    boxes = torch.rand(2, 7, coordinates)
    on_levels = memory.on_levels(boxes)
    assert on_levels.shape == (2, 7, 2, coordinates)
    for image in range(2):
        for level in range(2):
            for axis in range(coordinates):  # x and width, y and height
                ratio = memory.valid_ratios[image, level, axis % 2]
                expected = boxes[image, :, axis] * ratio
                torch.testing.assert_close(on_levels[image, :, level, axis], expected)


def test_centres_are_relative_to_the_unpadded_image() -> None:
    memory = Memory.of_levels(*levels())
    for image in range(2):
        for token, (level, row, column) in enumerate(pixels()):
            rows, columns = SIZES[level][image]
            centre = memory.pixel_centres[image, token].tolist()
            assert centre == pytest.approx([(column + 0.5) / columns, (row + 0.5) / rows])


class Proposer(nn.Module, ProposesBoxes):
    """A two-stage transformer of which only the proposals are asked."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.build_proposals(dim)


@pytest.mark.parametrize("training", [True, False])
def test_every_token_proposes_its_pixel_as_a_centre(training: bool) -> None:
    memory = Memory.of_levels(*levels())
    transformer, head = Proposer(5).train(training), nn.Linear(5, 3)
    proposals = transformer.propose(memory, head)
    usable = 0
    for image in range(2):
        for token, (level, row, column) in enumerate(pixels()):
            rows, columns = SIZES[level][image]
            size = 0.05 * 2**level
            anchor = [(column + 0.5) / columns, (row + 0.5) / rows, size, size]
            if max(anchor) < 0.99 and min(anchor) > 0.01:  # not padding either: it lies beyond 1
                usable += 1
                logit = [math.log(x / (1 - x)) for x in anchor]
                tokens = memory.tokens[image, token]
            else:
                logit, tokens = [math.inf] * 4, torch.zeros(5)
            assert proposals.anchors[image, token].tolist() == pytest.approx(logit, rel=1e-4)
            expected = transformer.enc_output_norm(transformer.enc_output(tokens))
            torch.testing.assert_close(proposals.tokens[image, token], expected)
            torch.testing.assert_close(proposals.logits[image, token], head(expected))
    assert usable == 24 + 6 + 12 + 4
    assert proposals.padding is (None if training else memory.mask)


def test_a_head_moves_the_anchors() -> None:
    head = nn.Linear(5, 4)
    tokens, anchors = torch.randn(1, 3, 5), torch.randn(1, 3, 4)
    anchors[0, 1] = torch.inf
    boxes = Proposals(tokens, tokens, torch.zeros(1, 3, 2), anchors).boxes(head)
    torch.testing.assert_close(boxes[:, ::2], (head(tokens) + anchors)[:, ::2])
    assert boxes[0, 1].isinf().all()
    half = Proposals(tokens.bfloat16(), tokens, torch.zeros(1, 3, 2), anchors).boxes(
        head.bfloat16()
    )
    assert half.dtype == torch.float32  # positions need more than 8 bits


def numbered(padding: Tensor | None = None) -> Proposals:
    """Two images with five tokens; everything of token i is 10 * image + i."""
    number = torch.arange(5) + 10 * torch.arange(2)[:, None]
    tokens, logits, anchors = (number[..., None].float().expand(-1, -1, n) for n in (3, 2, 4))
    return Proposals(tokens, tokens, logits, anchors, padding)


SCORES = torch.tensor([[0.1, 0.5, 0.3, 0.9, 0.2], [0.8, 0.1, 0.9, 0.4, 0.7]])
LAST_TWO = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.parametrize(
    ("count", "padding", "order"),
    [
        (3, None, [[3, 1, 2], [12, 10, 14]]),
        (3, LAST_TWO, [[3, 1, 2], [12, 10, 11]]),
        (5, LAST_TWO, [[3, 1, 2, 4, 0], [12, 10, 11, 12, 10]]),  # again from the best
        (7, None, [[3, 1, 2, 4, 0, 3, 1], [12, 10, 14, 13, 11, 12, 10]]),
    ],
)
def test_the_best_proposals_come_first_and_padding_never(count, padding, order) -> None:
    best = numbered(padding).top(count, SCORES)
    for values in (best.tokens, best.logits, best.anchors):
        assert values.shape[:2] == (2, count)
        assert values.int().tolist() == [[[n] * values.shape[2] for n in row] for row in order]


@pytest.mark.parametrize("images", [1, 2])
def test_a_batch_norm_before_the_tokens_gets_its_gradient(images: int) -> None:
    """sum(w * tokens) of y = norm(x): the bias has the gradient sum(w)."""
    torch.manual_seed(0)
    norm, weights = nn.BatchNorm2d(4), torch.randn(images, 15, 4)
    level = norm(torch.randn(images, 4, 3, 5))
    (as_tokens(level) * weights).sum().backward()
    torch.testing.assert_close(norm.bias.grad, weights.sum((0, 1)))
