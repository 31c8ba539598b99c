"""DAB-Deformable-DETR (DAB-DETR, Liu et al., ICLR 2022, on Deformable DETR): queries are boxes.

Legend: B images, N queries, C channels, S tokens; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detrex.compat.repeated import check_repeated
from detrex.modeling.criterion import Predictions
from detrex.modeling.detector import Detector
from detrex.modeling.heads import build_shared_heads
from detrex.modeling.queries import Queries, QueryGroup, as_groups, query_count
from detrex.modeling.transformer import AnchorBoxDecoder, Memory, MultiScaleTransformer, Proposals
from detrex.utils.arguments import keep_arguments


class DabDeformableDetrTransformerDecoder(AnchorBoxDecoder):
    """Anchor decoder whose positions are scaled by the content."""

    def __init__(self, **deformable) -> None:
        super().__init__(content_scale=True, **deformable)


class DabDeformableDETR(Detector):
    """Learned boxes with learned contents, or (``as_two_stage``) the encoder's best proposals.

    Every layer refines the boxes. ``content_dim`` is the width of the learned contents if it is not
    ``embed_dim``. ``iou_branch``, ``iou_weight``, ``nms_iou``: see
    :meth:`~detrex.modeling.detector.Detector.finish`.
    ``groups`` replaces the one group of ``num_queries``; all chosen proposals are supervised.
    ``device`` has no effect: the model lives where it is moved to.

    Raises:
        ValueError: if a value that upstream's configs repeat in ``transformer`` disagrees.
    """

    heads_refine = True

    @keep_arguments
    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: MultiScaleTransformer,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        aux_loss: bool = True,
        as_two_stage: bool = False,
        select_box_nums_for_evaluation: int = 300,
        device: str = "cuda",
        content_dim: int | None = None,
        iou_branch: bool = False,
        iou_weight: float = 0.3,
        groups: Sequence[QueryGroup] = (),
        nms_iou: float | None = None,
    ) -> None:
        super().__init__(backbone, position_embedding, neck, pixel_mean, pixel_std)
        check_repeated("transformer", transformer, as_two_stage=as_two_stage)
        self.groups = as_groups(groups, num_queries)
        total = query_count(self.groups)
        self.as_two_stage = as_two_stage
        if as_two_stage:
            check_repeated("transformer", transformer, two_stage_num_proposals=total)
        else:
            width = content_dim or embed_dim
            self.tgt_embed, self.refpoint_embed = learned_anchors(total, width)
        self.transformer = transformer
        self.class_embed, self.bbox_embed = build_shared_heads(
            transformer.decoder, embed_dim, num_classes, refine=True, two_stage=as_two_stage
        )
        self.finish(
            criterion, aux_loss, select_box_nums_for_evaluation, iou_branch, iou_weight, nms_iou
        )

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        groups, proposals = self.active_groups, ()
        total = query_count(groups)
        if self.as_two_stage:
            candidates = self.transformer.propose(memory, self.class_embed[-1])
            top = candidates.top(total, self.proposal_scores(candidates, self.bbox_embed[-1]))
            predicted = top.boxes(self.bbox_embed[-1])
            boxes, content = predicted.detach(), self.proposed_content(top)
            binary = getattr(self.criterion, "two_stage_binary_cls", False)
            proposals = (Predictions.of_encoder(top.logits, predicted.sigmoid(), binary),)
        else:
            boxes, content = (
                x.weight[:total].expand(memory.tokens.shape[0], -1, -1)
                for x in (self.refpoint_embed, self.tgt_embed)
            )
        queries = Queries(content, None, boxes.sigmoid(), groups, proposals=proposals)
        return self.extend(queries, targets)

    def proposal_scores(self, candidates: Proposals, box_head: nn.Module) -> Tensor:
        """Logits (B, S) by which proposals are chosen, the highest first."""
        return candidates.logits.amax(-1)

    def proposed_content(self, top: Proposals) -> Tensor:
        """Contents (B, N, C) of the chosen proposals."""
        return top.tokens.detach()

    def extend(self, queries: Queries, targets: list[dict] | None) -> Queries:
        """What a method adds to the queries, e.g. denoising queries if there are targets."""
        return queries


def learned_anchors(count: int, dim: int) -> tuple[nn.Embedding, nn.Embedding]:
    """Contents (N, C), zero, and boxes (N, 4) before the sigmoid, spread over the image."""
    content = nn.Embedding(count, dim, _weight=torch.zeros(count, dim))
    boxes = torch.rand(count, 4).logit().clamp(-3, 3)
    return content, nn.Embedding(count, 4, _weight=boxes)
