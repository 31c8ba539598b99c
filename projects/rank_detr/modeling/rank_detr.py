"""Rank-DETR (Pu et al., NeurIPS 2023): scores that rank the best-localised box first.

Two of its four parts live here: the query rank layer (QRL) and the rank-adaptive classification
head (RCH). The GIoU-aware loss is in ``rankdetr_criterion.py``, the high-order matching cost in
``detrex.modeling.matcher``.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.modeling.queries import Queries, rank_order
from detrex.modeling.transformer import DeformableTransformer, Memory
from projects.h_deformable_detr.modeling import HDeformableDETR, HDeformableDetrTransformerDecoder


class RankDetrTransformerDecoder(HDeformableDetrTransformerDecoder):
    """Sorts each query group by score after a layer and fuses a learned embedding of the rank.

    Section 3.2 of the paper: Q = W_post [sort(Q); W_pre C], C indexed by rank. With only the
    rank-adaptive head switched on queries are sorted, not fused.
    """

    def __init__(
        self,
        *,
        num_queries_one2one: int = 300,
        num_queries_one2many: int = 1500,
        two_stage_num_proposals: int | None = None,
        rank_adaptive_classhead: bool = True,
        query_rank_layer: bool = True,
        **deformable,
    ) -> None:
        super().__init__(**deformable)
        self.query_rank_layer = query_rank_layer
        self.sorts = query_rank_layer or rank_adaptive_classhead
        if query_rank_layer:
            ranks, dim = num_queries_one2one + num_queries_one2many, self.embed_dim
            gaps = range(self.num_layers - 1)
            self.rank_aware_content_query = nn.ModuleList(nn.Embedding(ranks, dim) for _ in gaps)
            self.pre_racq_trans = nn.ModuleList(nn.Linear(dim, dim) for _ in gaps)
            self.post_racq_trans = nn.ModuleList(nn.Linear(dim * 2, dim) for _ in gaps)

    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        if not self.sorts:
            return queries
        queries = queries.reorder(rank_order(logits, queries.groups))
        if not self.query_rank_layer:
            return queries
        batch, ranks = queries.content.shape[:2]
        rank = self.pre_racq_trans[i](self.rank_aware_content_query[i].weight[:ranks])  # (N, C)
        both = torch.cat([queries.content, rank.expand(batch, -1, -1)], -1)
        return replace(queries, content=self.post_racq_trans[i](both))


class RankDetrTransformer(DeformableTransformer):
    """The deformable transformer; upstream's configs repeat three values of the model here."""

    def __init__(
        self,
        *,
        num_queries_one2one: int = 300,
        num_queries_one2many: int = 1500,
        rank_adaptive_classhead: bool = True,
        **deformable,
    ) -> None:
        super().__init__(**deformable)


class RankDETR(HDeformableDETR):
    """H-Deformable-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank.

    Section 3.2 of the paper: a learned (rank, class) bias per layer is added to the logits. As in
    the released code the ranking itself does not see the bias.
    """

    def __init__(self, *, rank_adaptive_classhead: bool = True, num_classes: int, **h_detr) -> None:
        super().__init__(num_classes=num_classes, **h_detr)
        self.rank_adaptive_classhead = rank_adaptive_classhead
        if rank_adaptive_classhead:
            ranks = sum(group.size for group in self.groups)
            self.rank_adaptive_classhead_emb = nn.ModuleList(
                nn.Embedding(ranks, num_classes, _weight=torch.zeros(ranks, num_classes))
                for _ in range(self.transformer.decoder.num_layers)
            )

    def decode(self, queries: Queries, memory: Memory) -> tuple[Tensor, Tensor]:
        logits, boxes = super().decode(queries, memory)
        if self.rank_adaptive_classhead:
            ranks = logits.shape[2]
            bias = torch.stack([emb.weight[:ranks] for emb in self.rank_adaptive_classhead_emb])
            logits = logits + bias[:, None]
        return logits, boxes
