"""Rank-DETR's parts (Pu et al., NeurIPS 2023) on Stable-DINO, Relation-DETR, Mr. DETR and
RF-DETR. New here.

Denoising and hybrid queries and those of Mr. DETR's routes are not ranked. Box relations are of the
sorted boxes.
"""

from __future__ import annotations

from projects.lw_detr.modeling import LWDETRTransformerDecoder
from projects.mr_detr.modeling import MrDETR, RoutedDecoder
from projects.relation_detr.modeling import RelationDETR, RelationDetrTransformerDecoder
from projects.rf_detr.modeling import RFDETR
from projects.stabledino.modeling import DINO as StableDINO

from .ranking import QueryRankLayer, RankAdaptiveClassHead


class RankStableDINO(RankAdaptiveClassHead, StableDINO):
    """Stable-DINO whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""


class RankRelationDetrTransformerDecoder(QueryRankLayer, RelationDetrTransformerDecoder):
    """Relation-DETR's decoder with the query rank layer over ``num_queries`` ranks."""


class RankRelationDETR(RankAdaptiveClassHead, RelationDETR):
    """Relation-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""


class RankRoutedDecoder(QueryRankLayer, RoutedDecoder):
    """Mr. DETR's decoder with the query rank layer over ``num_queries`` ranks."""


class RankMrDETR(RankAdaptiveClassHead, MrDETR):
    """Mr. DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank.

    Raises:
        ValueError: for ``mix_scores``: a rank is another query in every layer.
    """

    def __init__(self, *, mix_scores: bool = False, **ranked) -> None:
        super().__init__(mix_scores=mix_scores, **ranked)
        if mix_scores:
            raise ValueError("model.mix_scores joins layers query by query: False where they rank")


class RankLWDETRTransformerDecoder(QueryRankLayer, LWDETRTransformerDecoder):
    """LW-DETR's decoder with the query rank layer over ``num_queries`` ranks of each group."""


class RankRFDETR(RankAdaptiveClassHead, RFDETR):
    """RF-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""
