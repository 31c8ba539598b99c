"""DDQ (Zhang et al., CVPR 2023): dense distinct queries, on DINO.

Legend: B images, N queries, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.transformer import Proposals
from detrex.utils.arguments import keep_arguments
from projects.dino.modeling import DINO, DINOTransformerDecoder

from .dense_branch import DDQLosses, DenseBranch
from .distinct_queries import DistinctLayers, DistinctProposals


class DistinctDecoder(DistinctLayers, DINOTransformerDecoder):
    """DINO's decoder with distinct queries."""


class DDQCriterion(DDQLosses, TwoStageCriterion):
    """Two-stage criterion with DDQ's dense branch, whose overlaps add nothing to the union, as
    released."""

    overlap_eps = 0.0


class DDQDETR(DenseBranch, DistinctProposals, DINO):
    """DINO whose queries start from distinct proposals, with contents made of the memory there, and
    which has a dense branch in training. The other arguments are DINO's."""

    @keep_arguments
    def __init__(self, *, embed_dim: int, **dino) -> None:
        super().__init__(embed_dim=embed_dim, **dino)
        if not self.dense.copies:  # else the branch has it
            self.query_map = nn.Linear(embed_dim, embed_dim)

    def proposed_content(self, top: Proposals) -> Tensor:
        return self.query_map(top.memory.detach())
