"""DAB-DETR (Liu et al., ICLR 2022): queries are boxes, refined layer by layer.

Legend: B images, N queries, S tokens, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detrex.compat.decoders import decode_anchors
from detrex.compat.overrides import takes_upstreams_arguments
from detrex.layers import MLP, get_sine_pos_embed
from detrex.modeling.heads import store_heads
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, QueryGroup, as_groups, query_count
from detrex.modeling.single_scale import SingleScaleDetector
from detrex.modeling.transformer import (
    ConditionalDecoder,
    ConditionalEncoder,
    DenseMemory,
    DenseTransformer,
)
from detrex.utils import inverse_sigmoid
from detrex.utils.arguments import keep_arguments


class DabDetrTransformerEncoder(ConditionalEncoder):
    """Encoder whose contents scale their positions."""

    def __init__(self, **conditional) -> None:
        super().__init__(**conditional)
        self.query_scale = MLP(self.embed_dim, self.embed_dim, self.embed_dim, 2)

    def scale_position(self, x: Tensor, position: Tensor) -> Tensor:
        return position * self.query_scale(x)


class DabDetrTransformerDecoder(ConditionalDecoder):
    """Queries look around the centres of their boxes, as wide as the boxes are.

    ``modulate_hw_attn``: x and y of the position are scaled by width and height predicted from the
    content, divided by those of the box (section 4.4).
    """

    @keep_arguments
    def __init__(
        self, *, embed_dim: int = 256, modulate_hw_attn: bool = True, **conditional
    ) -> None:
        heads = {"ref_point_head": MLP(2 * embed_dim, embed_dim, embed_dim, 2)}
        if modulate_hw_attn:
            heads["ref_anchor_head"] = MLP(embed_dim, embed_dim, 2, 2)
        super().__init__(embed_dim=embed_dim, modules=heads, **conditional)
        self.modulate_hw_attn = modulate_hw_attn
        self.look_forward_twice = True  # as upstream: a layer's loss also trains the box before it

    def position(self, i: int, queries: Queries, memory: DenseMemory) -> dict[str, Tensor]:
        sine = get_sine_pos_embed(queries.boxes, self.embed_dim // 2)  # (B, N, 2C) of y, x, w, h
        look = self.look(i, queries.content, sine[..., : self.embed_dim])
        if self.modulate_hw_attn:
            size = self.ref_anchor_head(queries.content).sigmoid()  # (B, N, 2) width and height
            narrow = (size / queries.boxes[..., 2:]).flip(-1)[..., None]  # y before x
            place = look["query_sine_embed"].unflatten(-1, (2, -1))
            look["query_sine_embed"] = (place * narrow).flatten(-2)
        return {"query_pos": self.ref_point_head(sine), **look}


class DabDetrTransformer(DenseTransformer):
    """The dense transformer; ``num_patterns`` contents share every box (0: one, all zeros)."""

    def __init__(self, *, num_patterns: int = 0, **dense) -> None:
        super().__init__(**dense)
        self.num_patterns = num_patterns
        if num_patterns:
            self.patterns = nn.Embedding(num_patterns, self.embed_dim)
            nn.init.xavier_uniform_(self.patterns.weight)


class DABDETR(SingleScaleDetector):
    """Learned boxes as queries; every layer refines them with the same head.

    ``freeze_anchor_box_centers`` starts the centres uniformly over the image; as upstream, and
    against its name, they are trained all the same.
    """

    heads_refine = True
    follows_decoder = True

    @keep_arguments
    def __init__(
        self,
        *,
        transformer: DabDetrTransformer,
        num_queries: int,
        freeze_anchor_box_centers: bool = True,
        groups: Sequence[QueryGroup] = (),
        **single_scale,
    ) -> None:
        if groups and transformer.num_patterns:
            raise ValueError("model.groups and model.transformer.num_patterns do not go together")
        groups = as_groups(groups, num_queries) if groups else ()
        count = query_count(groups) or num_queries
        anchors = nn.Embedding(count, 4)
        if freeze_anchor_box_centers:
            with torch.no_grad():
                anchors.weight[:, :2] = inverse_sigmoid(torch.rand(count, 2))
        super().__init__(
            transformer=transformer,
            num_queries=num_queries * max(transformer.num_patterns, 1),
            queries={"anchor_box_embed": anchors},
            groups=groups,
            **single_scale,
        )
        store_heads(transformer.decoder, None, self.bbox_embed)

    def make_queries(self, memory: DenseMemory, targets: list[dict] | None) -> Queries:
        groups = self.active_groups
        count = query_count(groups) // max(self.transformer.num_patterns, 1)
        boxes = self.anchor_box_embed.weight[:count].sigmoid()  # (N, 4)
        content = self.content(len(boxes))
        boxes = boxes.repeat(len(content) // len(boxes), 1)
        content, boxes = (x.expand(memory.tokens.shape[0], -1, -1) for x in (content, boxes))
        return Queries(content, None, boxes, groups)

    def decode(self, queries: Queries, memory: DenseMemory) -> Outputs:
        if takes_upstreams_arguments(self.transformer.decoder):
            return decode_anchors(self, queries, memory)
        return super().decode(queries, memory)

    def content(self, count: int) -> Tensor:
        """Contents (N, C) of ``count`` boxes, pattern after pattern."""
        if not self.transformer.num_patterns:
            return self.anchor_box_embed.weight.new_zeros(count, self.transformer.embed_dim)
        return self.transformer.patterns.weight.repeat_interleave(count, 0)
