"""LW-DETR (Chen et al. 2024, arXiv 2406.03459): a ViT, a projector and a shallow decoder, trained
with Group-DETR's groups and Align-DETR's IoU-aware class loss.

Each group of queries starts at the best proposals of its own encoder head; inference keeps the
first. Boxes move relative to their size, as in Faster R-CNN, and all layers look at the first ones.

Legend: B images, L layers, N queries, S tokens, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.layers import MultiScaleDeformableAttention
from detrex.modeling.criterion import Predictions
from detrex.modeling.detector import Detector
from detrex.modeling.heads import Heads, build_head
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import Memory, Proposals
from projects.dino.modeling import DINOTransformerDecoder


def moved(boxes: Tensor, delta: Tensor) -> Tensor:
    """Boxes (..., 4) whose centres move by ``delta`` times their size, and whose size grows by its
    exponential (Faster R-CNN, Ren et al. 2015, eq. 2)."""
    centre, size = boxes.split(2, -1)
    return torch.cat([centre + delta[..., :2] * size, delta[..., 2:].exp() * size], -1)


class BoxProposals(Proposals):
    """Proposals whose anchors (B, S, 4) are boxes, without size where nothing is proposed."""

    def boxes(self, box_head: nn.Module) -> Tensor:
        """Boxes (B, S, 4)."""
        return moved(self.anchors, box_head(self.tokens).float())


class LWDETRTransformerDecoder(DINOTransformerDecoder):
    """DINO's decoder; cross-attention has twice as many heads as self-attention, ``num_points``
    each, and every layer looks around the same boxes."""

    def __init__(self, *, num_points: int = 2, **deformable) -> None:
        super().__init__(look_forward_twice=False, **deformable)
        for layer in self.layers:
            usual = layer.attentions[1]
            layer.attentions[1] = MultiScaleDeformableAttention(
                self.embed_dim,
                2 * usual.num_heads,
                usual.num_levels,
                num_points,
                dropout=usual.dropout.p,
                batch_first=True,
            )

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        logits, delta, *iou_logits = heads(i, self.readout(queries.content))
        return (logits, moved(queries.boxes, delta), *iou_logits), queries


class LWDETRTransformer(nn.Module):
    """The decoder, and for each group of queries what proposes its boxes of the neck's tokens."""

    def __init__(self, decoder: LWDETRTransformerDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def build_proposals(self, group_nums: int, class_head: nn.Module, box_head: nn.Module) -> None:
        """Add the encoder's heads, copies of the decoder's."""
        dim, groups = self.decoder.embed_dim, range(group_nums)
        self.enc_output = nn.ModuleList(nn.Linear(dim, dim) for _ in groups)
        self.enc_output_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in groups)
        for parameter in (p for p in self.parameters() if p.dim() > 1):
            nn.init.xavier_uniform_(parameter)
        for layer in self.decoder.layers:
            layer.attentions[1].init_weights()
        self.enc_out_class_embed = nn.ModuleList(copy.deepcopy(class_head) for _ in groups)
        self.enc_out_bbox_embed = nn.ModuleList(copy.deepcopy(box_head) for _ in groups)

    def propose(self, memory: Memory, group: int) -> Proposals:
        """A class and an anchor at every token, by the heads of that group."""
        anchors, usable = memory.anchors
        # As upstream: unusable tokens are zeroed before the norm, so they share one score.
        tokens = self.enc_output[group](memory.tokens.masked_fill(~usable, 0.0))
        tokens = self.enc_output_norm[group](tokens)
        logits, anchors = self.enc_out_class_embed[group](tokens), anchors.masked_fill(~usable, 0.0)
        # As upstream: training may choose padding. An image's detections must not depend on it.
        padding = None if self.training else memory.mask
        return BoxProposals(tokens, memory.tokens, logits, anchors, padding)


class LWDETR(Detector):
    """LW-DETR with ``group_nums`` groups of ``num_queries`` queries in training.

    Losses are divided by ``group_nums`` times the number of objects. ``iou_branch``,
    ``iou_weight``, ``nms_iou``: see :meth:`~detrex.modeling.detector.Detector.finish`.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        transformer: LWDETRTransformer,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        group_nums: int = 13,
        pixel_mean: Sequence[float] = (123.675, 116.280, 103.530),
        pixel_std: Sequence[float] = (58.395, 57.120, 57.375),
        aux_loss: bool = True,
        select_box_nums_for_evaluation: int = 300,
        iou_branch: bool = False,
        iou_weight: float = 0.3,
        nms_iou: float | None = None,
    ) -> None:
        super().__init__(backbone, None, neck, pixel_mean, pixel_std)
        total, dim = num_queries * group_nums, transformer.decoder.embed_dim
        self.groups = (QueryGroup(size=total, blocks=group_nums, copies=group_nums),)
        self.transformer = transformer
        self.class_embed, self.bbox_embed = build_head(dim, num_classes)
        transformer.build_proposals(group_nums, self.class_embed, self.bbox_embed)
        self.refpoint_embed = nn.Embedding(total, 4, _weight=torch.zeros(total, 4))
        self.query_feat = nn.Embedding(total, dim)
        self.finish(
            criterion, aux_loss, select_box_nums_for_evaluation, iou_branch, iou_weight, nms_iou
        )

    def encode_levels(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> Memory:
        return Memory.of_levels(features, masks)

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        (group,) = groups = self.active_groups
        logits, boxes = [], []
        for i, box_head in enumerate(self.transformer.enc_out_bbox_embed[: group.blocks]):
            candidates = self.transformer.propose(memory, i)
            top = candidates.top(group.one_block.size, candidates.logits.amax(-1))
            logits.append(top.logits)
            boxes.append(top.boxes(box_head))
        logits, boxes = torch.cat(logits, 1), torch.cat(boxes, 1)
        content, delta = (
            x.weight[: group.size].expand(len(boxes), -1, -1)
            for x in (self.query_feat, self.refpoint_embed)
        )
        proposals = Predictions(logits[None], boxes[None], replace(group, name="_enc"), "encoder")
        start = moved(boxes.detach(), delta)
        return Queries(content, None, start, groups, proposals=(proposals,))
