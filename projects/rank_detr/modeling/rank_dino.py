"""Rank-DETR on DINO (Pu et al., NeurIPS 2023, table 2; code not released).

Positions are made from the sorted boxes by DINO's decoder itself. Denoising queries are not ranked.
"""

from __future__ import annotations

from projects.dino.modeling import DINO, DINOTransformerDecoder

from .ranking import QueryRankLayer, RankAdaptiveClassHead


class RankDinoTransformerDecoder(QueryRankLayer, DINOTransformerDecoder):
    """DINO's decoder with the query rank layer over ``num_queries`` ranks."""

    def __init__(
        self,
        *,
        num_queries: int = 900,
        rank_adaptive_classhead: bool = True,
        query_rank_layer: bool = True,
        **deformable,
    ) -> None:
        super().__init__(**deformable)
        self.build_ranking(num_queries, sorts=rank_adaptive_classhead, fuses=query_rank_layer)


class RankDINO(RankAdaptiveClassHead, DINO):
    """DINO whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""

    def __init__(
        self, *, rank_adaptive_classhead: bool = True, num_classes: int, num_queries: int, **dino
    ) -> None:
        super().__init__(num_classes=num_classes, num_queries=num_queries, **dino)
        if rank_adaptive_classhead:
            self.build_class_bias(num_queries, num_classes)
