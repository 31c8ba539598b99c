"""Class and box heads of the decoder layers.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detrex.layers import MLP


class Heads(NamedTuple):
    """The heads of all layers; ``refine``: a layer starts from the boxes that the one before it
    predicted, else all start from the same."""

    class_embed: Sequence[nn.Module]
    bbox_embed: Sequence[nn.Module]
    refine: bool
    iou_embed: Sequence[nn.Module] | None = None

    def __call__(self, layer: int, content: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, N, K), box offsets in logit space (B, N, 4) and, with an IoU branch, IoU
        logits (B, N) of one layer's output."""
        outputs = self.class_embed[layer](content), self.bbox_embed[layer](content).float()
        return *outputs, *self.iou_logits(layer, content)

    def iou_logits(self, layer: int, content: Tensor) -> tuple[Tensor, ...]:
        """IoU logits (B, N) of one layer's output; none without an IoU branch."""
        return () if self.iou_embed is None else (self.iou_embed[layer](content).squeeze(-1),)


def build_head(embed_dim: int, num_classes: int) -> tuple[nn.Linear, MLP]:
    """A class head that starts at scores of 0.01 (focal loss, Lin et al. 2017, section 3.3) and a
    box head that starts at the reference."""
    class_head = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(class_head.bias, -math.log((1 - 0.01) / 0.01))
    box_head = MLP(embed_dim, embed_dim, 4, 3)
    nn.init.zeros_(box_head.layers[-1].weight)
    nn.init.zeros_(box_head.layers[-1].bias)
    return class_head, box_head


def build_heads(
    embed_dim: int, num_classes: int, num_layers: int, *, refine: bool, two_stage: bool
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Class heads and box heads, one per decoder layer and one more for two-stage proposals.

    Each layer has its own heads if it refines boxes, else all share one. All start equal.
    """
    class_head, box_head = build_head(embed_dim, num_classes)
    count = num_layers + two_stage
    repeat = copy.deepcopy if refine else (lambda head: head)
    class_embed = nn.ModuleList(repeat(class_head) for _ in range(count))
    bbox_embed = nn.ModuleList(repeat(box_head) for _ in range(count))
    if not two_stage:  # boxes that grow from points start small; proposals have one
        with torch.no_grad():
            bbox_embed[0].layers[-1].bias[2:] = -2.0
    return class_embed, bbox_embed


def build_shared_heads(
    decoder: nn.Module, embed_dim: int, num_classes: int, *, refine: bool, two_stage: bool
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """:func:`build_heads` for a decoder, stored in it as well (:func:`store_heads`)."""
    class_embed, bbox_embed = build_heads(
        embed_dim, num_classes, decoder.num_layers, refine=refine, two_stage=two_stage
    )
    store_heads(decoder, class_embed if two_stage else None, bbox_embed if refine else None)
    return class_embed, bbox_embed


def store_heads(
    decoder: nn.Module, class_embed: nn.ModuleList | None, bbox_embed: nn.Module | None
) -> None:
    """Store the model's heads under upstream's second name, so that state_dicts match; the order
    is that of the decoder's parameters."""
    heads = {"bbox_embed": bbox_embed, "class_embed": class_embed}
    for name in getattr(decoder, "heads_order", heads):
        setattr(decoder, name, heads[name])
