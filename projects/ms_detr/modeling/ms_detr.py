"""MS-DETR (Zhao et al., CVPR 2024): the primary queries also get one-to-many supervision.

A decoder layer looks at the image first. What its queries then are, before they compare themselves
with each other, is supervised one-to-many: the candidates. What they are at the layer's end is
supervised one-to-one, as ever. In training the candidates stand behind the queries, as a group.

Legend: B images, N queries, C channels, L levels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from detrex.layers import DecoderLayer
from detrex.layers.attention import Rows
from detrex.modeling.heads import Heads
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import DeformableDecoder, Memory
from detrex.utils.arguments import keep_arguments
from projects.deformable_detr.modeling import DeformableDETR


class MixedLayer(DecoderLayer):
    """A Deformable DETR layer that looks at the image before queries compare themselves."""

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        attn_mask: tuple[Rows, ...],
        **keys,
    ) -> Tensor:
        """query and query_pos (B, N, C), reference_points (B, N, L, 4): of each the first group is
        read. The output has the candidates in the place of a second group."""
        rows = attn_mask[:1]
        count = rows[0].size
        compare, look = self.attentions
        x, place, points = (t[:, :count] for t in (query, query_pos, reference_points))
        candidates = self.norms[1](look(x, query_pos=place, reference_points=points, **keys))
        x = self.norms[0](compare(candidates, query_pos=place, attn_mask=rows))
        x = self.norms[2](self.ffns[0](x))
        return torch.cat([x, candidates[:, : query.shape[1] - count]], 1)


class MixedDecoder(DeformableDecoder):
    """Deformable decoder of :class:`MixedLayer`; the keys are its base's."""

    def __init__(self, **deformable) -> None:
        super().__init__(**deformable)
        layers = (MixedLayer(*layer.attentions, *layer.ffns) for layer in self.layers)
        self.layers = nn.ModuleList(layers)

    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        """Candidates start each layer where the queries stand."""
        batch, total = queries.content.shape[:2]
        primary = queries.groups[0].size
        if total == primary:
            return queries
        order = torch.arange(total, device=queries.content.device) % primary
        return queries.reorder(order.expand(batch, -1))


class MSDETR(DeformableDETR):
    """Deformable DETR with mixed supervision; the candidates have heads of their own.

    ``k_one2many``: candidates per target, 0 switches them off; ``lambda_one2many``: weight of their
    losses. The criterion says how they are assigned.

    Raises:
        ValueError: for ``groups`` of one's own.
    """

    @keep_arguments
    def __init__(self, *, k_one2many: int = 6, lambda_one2many: float = 1.0, **deformable) -> None:
        super().__init__(**deformable)
        if len(self.groups) > 1:
            raise ValueError("MS-DETR's candidates are copies of one query group: leave groups out")
        self.candidates = replace(
            self.groups[0],
            name="_one2many",
            copies=k_one2many,
            weight=lambda_one2many,
            one_to_many=True,
        )
        layers = self.transformer.decoder.num_layers
        self.class_embed_one2many = copy.deepcopy(self.class_embed[:layers])
        self.bbox_embed_one2many = copy.deepcopy(self.bbox_embed[:layers])

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is not None and self.candidates.copies:
            again = replace(queries, groups=(self.candidates,), proposals=())
            queries = queries.join(again)
        return queries

    def heads(self) -> Heads:
        heads = super().heads()
        if not (self.training and self.candidates.copies):
            return heads
        size = self.groups[0].size
        return heads._replace(
            class_embed=_split(self.class_embed, self.class_embed_one2many, size),
            bbox_embed=_split(self.bbox_embed, self.bbox_embed_one2many, size),
        )


def _split(
    heads: Sequence[nn.Module], others: Sequence[nn.Module], size: int
) -> list[Callable[[Tensor], Tensor]]:
    """Of each layer a head for the first ``size`` queries and another for the rest."""

    def both(i: int, x: Tensor) -> Tensor:
        return torch.cat([heads[i](x[:, :size]), others[i](x[:, size:])], 1)

    return [partial(both, i) for i in range(len(others))]
