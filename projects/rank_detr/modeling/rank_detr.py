"""Rank-DETR (Pu et al., NeurIPS 2023): scores that rank the best-localised box first.

Two of its four parts are in ``ranking.py``; the GIoU-aware loss is in ``rankdetr_criterion.py``,
the high-order matching cost in ``detrex.modeling.matcher``.
"""

from __future__ import annotations

from detrex.modeling.transformer import DeformableTransformer
from detrex.utils.arguments import keep_arguments
from projects.h_deformable_detr.modeling import HDeformableDETR, HDeformableDetrTransformerDecoder

from .ranking import QueryRankLayer, RankAdaptiveClassHead


class RankDetrTransformerDecoder(QueryRankLayer, HDeformableDetrTransformerDecoder):
    """H-DETR's decoder with the query rank layer."""

    @keep_arguments
    def __init__(
        self,
        *,
        num_queries_one2one: int = 300,
        num_queries_one2many: int = 1500,
        two_stage_num_proposals: int | None = None,
        **decoder,
    ) -> None:
        super().__init__(num_queries=num_queries_one2one + num_queries_one2many, **decoder)


class RankDetrTransformer(DeformableTransformer):
    """The deformable transformer; upstream's configs repeat three values of the model here."""

    @keep_arguments
    def __init__(
        self,
        *,
        num_queries_one2one: int = 300,
        num_queries_one2many: int = 1500,
        rank_adaptive_classhead: bool = True,
        **deformable,
    ) -> None:
        super().__init__(**deformable)


class RankDETR(RankAdaptiveClassHead, HDeformableDETR):
    """H-Deformable-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""
