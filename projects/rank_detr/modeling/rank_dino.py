"""Rank-DETR on DINO (Pu et al., NeurIPS 2023, table 2; code not released).

Positions are made from the sorted boxes by DINO's decoder itself. Denoising queries are not ranked.
"""

from __future__ import annotations

from projects.dino.modeling import DINO, DINOTransformerDecoder

from .ranking import QueryRankLayer, RankAdaptiveClassHead


class RankDinoTransformerDecoder(QueryRankLayer, DINOTransformerDecoder):
    """DINO's decoder with the query rank layer over ``num_queries`` ranks."""


class RankDINO(RankAdaptiveClassHead, DINO):
    """DINO whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""
