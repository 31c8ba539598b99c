"""Rank-DETR's parts (Pu et al., NeurIPS 2023) on RT-DETR. New here, not published.

Contents come from the encoder's best tokens and positions are made from the sorted boxes by
RT-DETR's decoder itself. Denoising queries are not ranked.
"""

from __future__ import annotations

from projects.rank_detr.modeling import RankDetrCriterion
from projects.rank_detr.modeling.ranking import QueryRankLayer, RankAdaptiveClassHead
from projects.rt_detr.modeling import RTDETR, RTDETRTransformerDecoder


class RankRTDETRTransformerDecoder(QueryRankLayer, RTDETRTransformerDecoder):
    """RT-DETR's decoder with the query rank layer over ``num_queries`` ranks."""


class RankRTDETR(RankAdaptiveClassHead, RTDETR):
    """RT-DETR whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""


class RankRTDETRCriterion(RankDetrCriterion):
    """``GIoU_aware_class_loss`` replaces ``loss_class_type`` of the decoder's matching queries;
    proposals keep it, so that query selection stays RT-DETR's, and so do denoising queries."""

    focal_proposals = False
