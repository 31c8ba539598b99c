"""Rank-DETR's parts (Pu et al., NeurIPS 2023) on Stable-DINO and on Relation-DETR. New here.

Denoising and hybrid queries are not ranked. Box relations are of the sorted boxes.
"""

from __future__ import annotations

from projects.relation_detr.modeling import RelationDETR, RelationDetrTransformerDecoder
from projects.stabledino.modeling import DINO as StableDINO

from .ranking import QueryRankLayer, RankAdaptiveClassHead


class RankStableDINO(RankAdaptiveClassHead, StableDINO):
    """Stable-DINO whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""


class RankRelationDetrTransformerDecoder(QueryRankLayer, RelationDetrTransformerDecoder):
    """Relation-DETR's decoder with the query rank layer over ``num_queries`` ranks."""


class RankRelationDETR(RankAdaptiveClassHead, RelationDETR):
    """Relation-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""
