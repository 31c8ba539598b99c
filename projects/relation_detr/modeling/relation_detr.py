"""Relation-DETR (Hou et al., ECCV 2024): DINO whose self-attention depends on the relations of
boxes, with hybrid queries that are matched to every target several times.

Legend: B images, S tokens, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from detrex.modeling.criterion import Predictions, TwoStageCriterion
from detrex.modeling.heads import build_head
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import DeformableEncoder, Memory
from detrex.utils.arguments import keep_arguments
from projects.dino.modeling import DINO, DINOTransformerDecoder


class RelationDetrTransformerEncoder(DeformableEncoder):
    """Deformable encoder that joins its input and the outputs of all layers."""

    def __init__(self, **deformable) -> None:
        super().__init__(**deformable)
        dim = self.embed_dim
        self.memory_fusion = nn.Sequential(
            nn.Linear(dim * (self.num_layers + 1), dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
        )

    def fuse(self, outputs: Sequence[Tensor]) -> Tensor:
        return self.memory_fusion(torch.cat([*outputs], -1))


class RelationDetrTransformerDecoder(DINOTransformerDecoder):
    """DINO's decoder with positions scaled by the content, and the bias of box relations."""

    def __init__(self, *, box_relation: bool = True, **deformable) -> None:
        super().__init__(content_scale=True, box_relation=box_relation, **deformable)


class RelationDetrCriterion(TwoStageCriterion):
    """All sets, proposals and denoising too, have the class loss of ``loss_class_type``."""

    usual_set_losses: ClassVar = {}

    def __init__(self, *args, loss_class_type: str = "varifocal_detached_loss", **rest) -> None:
        super().__init__(*args, loss_class_type=loss_class_type, **rest)


class RelationDETR(DINO):
    """DINO with ``num_hybrid_queries`` from heads of their own, in training: they match each target
    ``k_hybrid`` times (0: there are none) and attend without relations (section 3.3)."""

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        num_hybrid_queries: int = 1500,
        k_hybrid: int = 6,
        **dino,
    ) -> None:
        super().__init__(embed_dim=embed_dim, num_classes=num_classes, **dino)
        self.hybrid = QueryGroup("_hybrid", num_hybrid_queries, copies=k_hybrid, ranked=False)
        if k_hybrid:
            self.hybrid_tgt_embed = nn.Embedding(num_hybrid_queries, embed_dim)
            self.hybrid_class_head, self.hybrid_bbox_head = build_head(embed_dim, num_classes)

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is None or not self.hybrid.copies:
            return queries
        return queries.join(self.hybrid_queries(memory))

    def hybrid_queries(self, memory: Memory) -> Queries:
        """The best proposals of the hybrid heads, which are supervised, too."""
        candidates = self.transformer.propose(memory, self.hybrid_class_head)
        top = candidates.top(self.hybrid.size, candidates.logits.amax(-1))
        boxes = top.boxes(self.hybrid_bbox_head).sigmoid()
        content = self.hybrid_tgt_embed.weight.expand(len(boxes), -1, -1)
        proposals = replace(self.hybrid, name="_enc_hybrid")
        supervised = Predictions(top.logits[None], boxes[None], proposals, "encoder")
        groups = (self.hybrid,)
        return Queries(content, None, boxes.detach(), groups, proposals=(supervised,))
