"""What the encoder hands to the decoder: tokens of all levels, and a box proposed at each token.

Source: Deformable DETR (Zhu et al. 2021), section 4.1 and appendix A.4.
Legend: B images, L levels, S tokens of all levels, N queries, C channels, K classes;
boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn


def as_tokens(level: Tensor) -> Tensor:
    """A level (B, C, H, W) as tokens (B, H * W, C), for a batch norm that ends the level, too.

    PyTorch's batch norm on the CPU (2.14.1) reads the gradient of one image's tokens in the wrong
    order, by its strides (C, 1, W * C, C): all gradients before it would be wrong.
    """
    if level.requires_grad and level.is_cpu and not torch.compiler.is_compiling():
        level.register_hook(Tensor.contiguous)
    return level.flatten(2).transpose(1, 2)


@dataclass
class Memory:
    """Tokens of all levels.

    tokens (B, S, C); mask (B, S), True = padding; shapes: (height, width) per level; valid_ratios
    (B, L, 2): the unpadded share of each level's width and height.
    """

    tokens: Tensor
    mask: Tensor
    shapes: list[tuple[int, int]]
    valid_ratios: Tensor

    @classmethod
    def of_levels(cls, features: Sequence[Tensor], masks: Sequence[Tensor]) -> Memory:
        """The memory of levels (B, C, H, W) and their padding masks (B, H, W), not encoded yet."""
        return cls(
            tokens=torch.cat([as_tokens(f) for f in features], 1),
            mask=torch.cat([m.flatten(1) for m in masks], 1),
            shapes=[tuple(f.shape[-2:]) for f in features],
            valid_ratios=torch.stack([_valid_ratio(m) for m in masks], 1),
        )

    def cross_attention_inputs(self) -> dict:
        """Keyword arguments of cross-attention."""
        return {
            "value": self.tokens,
            "key_padding_mask": self.mask,
            "spatial_shapes": self.shapes,
        }

    def on_levels(self, boxes: Tensor) -> Tensor:
        """Boxes or points relative to the padded levels (B, N, L, 2 or 4), from those relative to
        the image (B, N, 2 or 4)."""
        ratios = self.valid_ratios.repeat(1, 1, boxes.shape[-1] // 2)  # (B, L, 2 or 4)
        return boxes[:, :, None] * ratios[:, None]

    @cached_property
    def pixel_centres(self) -> Tensor:
        """Centres (B, S, 2) of the tokens, relative to the unpadded image."""
        ratios = zip(self.shapes, self.valid_ratios.unbind(1), strict=True)
        return torch.cat([_pixel_centres(h, w, ratio) for (h, w), ratio in ratios], 1)

    @cached_property
    def anchors(self) -> tuple[Tensor, Tensor]:
        """A box (B, S, 4) around each token's pixel, 0.05 * 2^level of the image's width and
        height, and whether it may be proposed (B, S, 1): not on padding, nor within 0.01 of the
        border."""
        centres = self.pixel_centres
        sizes = [
            centres.new_full((h * w, 2), 0.05 * 2.0**level)
            for level, (h, w) in enumerate(self.shapes)
        ]
        boxes = torch.cat([centres, torch.cat(sizes).expand_as(centres)], -1)
        inside = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
        return boxes, inside & ~self.mask[..., None]


@dataclass
class Proposals:
    """What the encoder proposes at every token (two-stage).

    tokens (B, S, C), from which it is predicted, and the memory (B, S, C) that these are made of;
    logits (B, S, K); anchors (B, S, 4) before the sigmoid, infinite where a token is padding or too
    close to the border; padding (B, S), True = must not be chosen, or None.
    """

    tokens: Tensor
    memory: Tensor
    logits: Tensor
    anchors: Tensor
    padding: Tensor | None = None

    def boxes(self, box_head: nn.Module) -> Tensor:
        """Boxes (B, S, 4) before the sigmoid."""
        return box_head(self.tokens).float() + self.anchors

    def top(self, count: int, scores: Tensor) -> Proposals:
        """The ``count`` proposals of each image with the best scores (B, S), best first.

        In an image with fewer tokens the ranking is repeated.
        """
        tokens = scores.shape[1]
        usable = tokens
        if self.padding is not None:
            scores = scores.masked_fill(self.padding, -torch.inf)
            usable = (~self.padding).sum(1, keepdim=True)  # (B, 1)
        best = scores.topk(min(count, tokens), dim=1).indices
        ranks = torch.arange(count, device=best.device) % usable
        best = best.gather(1, ranks.expand(best.shape[0], -1))[..., None]  # (B, N, 1)
        columns = (self.tokens, self.memory, self.logits, self.anchors)
        return type(self)(*(x.gather(1, best.expand(-1, -1, x.shape[-1])) for x in columns))


def _pixel_centres(height: int, width: int, ratio: Tensor) -> Tensor:
    """Centres (B, H * W, 2) as (x, y) of a level's pixels, relative to its unpadded part; ratio
    (B, 2) is that part's share of width and height."""
    x, y = (  # (B, W) and (B, H)
        torch.arange(0.5, side, dtype=ratio.dtype, device=ratio.device)
        / (ratio[:, axis, None] * side)
        for axis, side in enumerate((width, height))
    )
    shape = (-1, height, width)
    return torch.stack([x[:, None].expand(shape), y[..., None].expand(shape)], -1).flatten(1, 2)


def _valid_ratio(mask: Tensor) -> Tensor:
    """Unpadded share (B, 2) of width and height of masks (B, H, W)."""
    height, width = mask.shape[1:]
    inside = ~mask
    return torch.stack([inside[:, 0].sum(1) / width, inside[:, :, 0].sum(1) / height], -1)


class ProposesBoxes:
    """Mixed into a two-stage transformer: a class and a box at every token of the memory."""

    def build_proposals(self, dim: int) -> None:
        self.enc_output = nn.Linear(dim, dim)
        self.enc_output_norm = nn.LayerNorm(dim)

    def propose(self, memory: Memory, class_head: nn.Module) -> Proposals:
        """A class and an anchor at every token."""
        anchors, usable = memory.anchors
        start = anchors.logit().masked_fill(~usable, torch.inf)
        # As upstream: unusable tokens are zeroed before the norm, so they share one score, and
        # their infinite coordinates become boxes at 1.
        tokens = self.enc_output_norm(self.enc_output(memory.tokens.masked_fill(~usable, 0.0)))
        # As upstream: training may choose padding. An image's detections must not depend on it.
        padding = None if self.training else memory.mask
        return Proposals(tokens, memory.tokens, class_head(tokens), start, padding)
