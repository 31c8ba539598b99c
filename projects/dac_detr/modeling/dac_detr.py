"""DAC-DETR (Hu et al., NeurIPS 2023): the decoder runs a second time without self-attention.

Without it nothing keeps queries from gathering at the same object. So there many queries answer for
each target, and cross-attention learns from all of them.

Legend: B images, L layers, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detectron2.structures import Instances
from torch import Tensor, nn
from torchvision.ops import batched_nms

from detrex.layers import DecoderLayer
from detrex.layers.attention import Rows
from detrex.modeling.criterion import ManyToOneCriterion, Predictions, SetCriterion
from detrex.modeling.postprocess import as_instances, best_pairs
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import DeformableDecoder, Memory
from detrex.utils.arguments import keep_arguments
from projects.deformable_detr.modeling import RoutedDETR

CROSS = "cross"  # the route without self-attention


class CrossLayer(DecoderLayer):
    """A Deformable DETR layer that can leave self-attention out."""

    def forward(
        self,
        x: Tensor,
        query_pos: Tensor,
        attn_mask: tuple[Rows, ...],
        compare: bool,
        **memory: object,
    ) -> Tensor:
        if compare:
            return super().forward(x, query_pos=query_pos, attn_mask=attn_mask, **memory)
        x = self.norms[1](self.attentions[1](x, query_pos=query_pos, **memory))
        return self.norms[2](self.ffns[0](x))


class CrossDecoder(DeformableDecoder):
    """Deformable decoder of :class:`CrossLayer`. The route "cross" compares queries in the first
    layer alone, which is the same on both routes."""

    eps = 1e-5

    def __init__(self, **deformable) -> None:
        super().__init__(**deformable)
        self.layers = nn.ModuleList(
            CrossLayer(*layer.attentions, *layer.ffns) for layer in self.layers
        )

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor | bool]:
        compare = i == 0 or queries.route != CROSS
        return {**super().position(i, queries, memory), "compare": compare}


class DACCriterion(ManyToOneCriterion):
    """Many-to-one criterion whose proposals have focal loss, and whose overlaps add nothing to the
    union, as released."""

    overlap_eps = 0.0
    usual_set_losses = SetCriterion.usual_set_losses


class DACDETR(RoutedDETR):
    """Two-stage Deformable DETR with the route "cross"; its losses are divided by ``copies`` times
    the number of objects.

    ``nms_iou``: as released, NMS is done before the best detections are chosen. Losses have the
    released names: those of the route have no suffix, those of the queries of inference "_one2one".
    The other arguments are :class:`~projects.deformable_detr.modeling.RoutedDETR`'s.
    """

    spare_labels = 1  # as released

    @keep_arguments
    def __init__(self, *, copies: int = 3, nms_iou: float | None = 0.8, **routed) -> None:
        super().__init__(nms_iou=nms_iou, **routed)
        self.cross = replace(self.groups[0], name="_cross", copies=copies, one_to_many=True)

    def routes(self, queries: Queries, memory: Memory) -> list[Queries]:
        return [replace(queries, groups=(self.cross,), route=CROSS, proposals=())]

    def route_sets(self, route: Queries, memory: Memory, outputs: Outputs) -> list[Predictions]:
        """As released: the scores of the route are matched with the boxes of the first pass."""
        first, *others = super().route_sets(route, memory, outputs)
        boxes = outputs.boxes[-len(first.boxes) :, :, : self.cross.size]
        return [replace(first, matched_boxes=boxes.detach()), *others]

    def losses(self, sets: Sequence[Predictions], targets: list[dict]) -> dict[str, Tensor]:
        losses = super().losses(sets, targets)
        return {released_name(name): loss for name, loss in losses.items()}

    def select(
        self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        if self.nms_iou is None:
            return super().select(logits, boxes, sizes)
        images = as_instances(best_pairs(logits, boxes, 10000), sizes)
        count = self.select_box_nums_for_evaluation
        return [x[keep_best(x, self.nms_iou)[:count]] for x in images]


def released_name(name: str) -> str:
    """The released name of a loss: "loss_bbox_0_cross" is "loss_bbox_0"."""
    if "_cross" in name:
        return name.replace("_cross", "")
    return name if name.endswith("_enc") else f"{name}_one2one"


def keep_best(detections: Instances, threshold: float) -> Tensor:
    """Indices of the detections that no better one of their class overlaps by more than
    ``threshold``, the best first."""
    boxes, scores = detections.pred_boxes.tensor, detections.scores
    return batched_nms(boxes.float(), scores.float(), detections.pred_classes, threshold)
