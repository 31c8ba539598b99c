"""Rank-DETR's parts (Pu et al., NeurIPS 2023) on D-FINE. New here, not published.

D-FINE's losses of boxes and edges need a query to be the same in all layers, so the outputs of a
decoder that sorts are put back into the first layer's order before they are supervised. The
distributions of a query go with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from detrex.modeling.predictions import Predictions
from detrex.modeling.queries import QueryGroup
from projects.d_fine.modeling import DFINE, DFINECriterion, DFINETransformerDecoder
from projects.d_fine.modeling.d_fine import DFINEOutputs
from projects.rank_detr.modeling import RankDetrCriterion
from projects.rank_detr.modeling.ranking import QueryRankLayer, RankAdaptiveClassHead


class RankDFINETransformerDecoder(QueryRankLayer, DFINETransformerDecoder):
    """D-FINE's decoder with the query rank layer over ``num_queries`` ranks. The scores that rank
    include the quality estimate."""


class RankDFINE(RankAdaptiveClassHead, DFINE):
    """D-FINE whose decoder ranks; ``rank_adaptive_classhead`` adds a bias by rank."""

    def supervised_sets(
        self, outputs: DFINEOutputs, groups: Sequence[QueryGroup]
    ) -> list[Predictions]:
        return super().supervised_sets(in_first_order(outputs), groups)


class RankDFINECriterion(RankDetrCriterion, DFINECriterion):
    """``GIoU_aware_class_loss`` replaces ``loss_class_type`` of the decoder's matching queries;
    proposals keep it, so that query selection stays D-FINE's, and so do denoising queries."""

    focal_proposals = False


def in_first_order(outputs: DFINEOutputs) -> DFINEOutputs:
    """The outputs of all layers in the order of the first layer's queries."""
    order = outputs.place[..., 0].argsort(2)  # (L, B, N), the inverse of the places

    def sort(x: torch.Tensor | None) -> torch.Tensor | None:
        if x is None:
            return None
        index = order.reshape(*order.shape, *[1] * (x.dim() - 3))
        return x.gather(2, index.expand_as(x))

    return DFINEOutputs(*map(sort, outputs))
