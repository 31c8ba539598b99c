"""DDQ's parts (Zhang et al., CVPR 2023) on Rank-DETR (Pu et al., NeurIPS 2023). New here.

Distinct proposals become the queries of inference, the next ones those of the one-to-many branch.
Queries that do not count rank last, and their places in the masks move with them.
"""

from __future__ import annotations

from projects.rank_detr.modeling import RankDETR, RankDetrCriterion, RankDetrTransformerDecoder

from .dense_branch import DDQLosses, DenseBranch
from .distinct_queries import DistinctLayers, DistinctProposals


class DDQRankDetrTransformerDecoder(DistinctLayers, RankDetrTransformerDecoder):
    """Rank-DETR's decoder with distinct queries, chosen before a layer's queries are sorted."""


class DDQRankCriterion(DDQLosses, RankDetrCriterion):
    """Rank-DETR's criterion with DDQ's dense branch."""


class DDQRankDETR(DenseBranch, DistinctProposals, RankDETR):
    """Rank-DETR whose queries start from distinct proposals; ``k_dense=0``: without the branch."""
