"""D-FINE (Peng et al., ICLR 2025): every decoder layer refines distributions of the edges of a box
that the first layer predicts.

Legend: B images, L layers, N queries, C channels, K classes, W values of a distribution; boxes are
cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detrex.layers import MLP
from detrex.modeling.criterion import Predictions
from detrex.modeling.heads import Heads
from detrex.modeling.queries import Queries, QueryGroup, reordered, spans
from detrex.modeling.transformer import Memory
from detrex.modeling.transformer.decoder import Decoder
from detrex.utils import inverse_sigmoid
from detrex.utils.arguments import keep_arguments
from projects.rt_detr.modeling import RTDETR

from .denoising import denoising_queries
from .distribution import EdgeDistribution, QualityEstimate
from .layers import GatedDecoderLayer


class DFINEOutputs(NamedTuple):
    """The outputs of all decoder layers: logits (L, B, N, K), boxes (L, B, N, 4), logits of the
    edges (L, B, N, 4 * W), the first layer's box that they refine (L, B, N, 4), logits before the
    quality estimate (L, B, N, K) and the queries' places before any sorting (L, B, N, 1)."""

    logits: Tensor
    boxes: Tensor
    corners: Tensor
    reference: Tensor
    class_logits: Tensor
    place: Tensor
    iou_logits: Tensor | None = None


@dataclass
class DFINEQueries(Queries):
    """Queries after the first layer: its boxes (B, N, 4), logits of the edges (B, N, 4 * W), the
    last layer's content (B, N, C) without gradient, places before any sorting (B, N, 1)."""

    reference: Tensor | None = None
    corners: Tensor | None = None
    previous: Tensor | None = None
    place: Tensor | None = None

    def reorder(self, order: Tensor) -> Queries:
        names = ("reference", "corners", "previous", "place")
        columns = {name: reordered(getattr(self, name), order) for name in names}
        return replace(super().reorder(order), **columns)


@dataclass
class EdgePredictions(Predictions):
    """A supervised set with logits of the edges (L, B, N, 4 * W) around ``reference`` boxes
    (B, N, 4), as ``edges`` reads them; ``balance``: the pairs' share of their distillation."""

    corners: Tensor | None = None
    reference: Tensor | None = None
    edges: EdgeDistribution | None = None
    balance: float = 0.5


class DFINETransformerDecoder(Decoder):
    """The first layer predicts boxes; all layers add to the logits of their edges' distributions.

    Args:
        num_points: sampling points on each level, finest first.
        reg_max: see :class:`EdgeDistribution`.
        reg_scale: as well.
        quality_estimate: every layer's logits include that of :class:`QualityEstimate`.
        use_checkpoint: activations are computed again in backward.
    """

    eps = 1e-5
    outputs_type = DFINEOutputs

    @keep_arguments
    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.0,
        num_layers: int = 6,
        num_points: Sequence[int] = (3, 6, 3),
        reg_max: int = 32,
        reg_scale: float = 4.0,
        quality_estimate: bool = True,
        use_checkpoint: bool = False,
    ) -> None:
        layer = GatedDecoderLayer(
            embed_dim, num_heads, tuple(num_points), feedforward_dim, attn_dropout
        )
        super().__init__(layer, num_layers, use_checkpoint=use_checkpoint)
        self.edges = EdgeDistribution(reg_max, reg_scale)
        self.ref_point_head = MLP(4, 2 * embed_dim, embed_dim, 2)
        self.initial_bbox_embed = MLP(embed_dim, embed_dim, 4, 3)
        estimates = range(num_layers if quality_estimate else 0)
        self.quality_embed = nn.ModuleList(QualityEstimate() for _ in estimates)
        for parameter in self.initial_bbox_embed.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def position(self, i: int, queries: Queries, memory: Memory) -> dict[str, Tensor]:
        return {
            "query_pos": self.ref_point_head(queries.boxes).clamp(-10, 10),
            "reference_points": memory.on_levels(queries.boxes),
        }

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        if i == 0:
            queries = self.start(queries)
        content = queries.content
        class_logits = heads.class_embed[i](content)
        moves = heads.bbox_embed[i](content + queries.previous).float()
        corners = queries.corners + moves
        boxes = self.edges.boxes(queries.reference.detach(), corners)
        logits = class_logits
        if self.quality_embed:
            logits = class_logits + self.quality_embed[i](corners)
        output = (logits, boxes, corners, queries.reference, class_logits, queries.place)
        queries = replace(queries, boxes=boxes.detach(), corners=corners, previous=content.detach())
        return (*output, *heads.iou_logits(i, content)), queries

    def start(self, queries: Queries) -> DFINEQueries:
        """The first layer's queries with the boxes that it predicts and all edges at rest."""
        content = queries.content
        start = inverse_sigmoid(queries.boxes, self.eps)
        place = torch.arange(content.shape[1], device=content.device)
        return DFINEQueries(
            **{f.name: getattr(queries, f.name) for f in fields(queries)},
            reference=(self.initial_bbox_embed(content).float() + start).sigmoid(),
            corners=start.new_zeros(()),
            previous=content.new_zeros(()),
            place=place[:, None].expand(content.shape[0], -1, -1),
        )


class DFINE(RTDETR):
    """RT-DETR whose boxes are refined as distributions; groups of denoising queries as released."""

    def __init__(self, *, embed_dim: int, num_classes: int, **rt_detr) -> None:
        super().__init__(embed_dim=embed_dim, num_classes=num_classes, **rt_detr)
        decoder = self.transformer.decoder
        for i in range(decoder.num_layers):
            head = MLP(embed_dim, embed_dim, 4 * decoder.edges.bins, 3)
            for parameter in head.layers[-1].parameters():
                nn.init.zeros_(parameter)
            self.bbox_embed[i] = head
        # The last row is that of padding.
        self.label_enc = nn.Embedding(num_classes + 1, embed_dim, padding_idx=num_classes)

    def extend(self, queries: Queries, targets: list[dict] | None) -> Queries:
        if targets is None:
            return queries
        noise = self.dn_number, self.label_noise_ratio, self.box_noise_scale
        return queries.join(denoising_queries(targets, self.label_enc, *noise))

    def supervised_sets(
        self, outputs: DFINEOutputs, groups: Sequence[QueryGroup]
    ) -> list[Predictions]:
        """Two sets of each group: its edges, and as ``<name>_pre`` what the first layer predicts
        without them."""
        layers, sets = slice(None if self.aux_loss else -1, None), []
        for group, span in zip(groups, spans(groups), strict=True):
            every = DFINEOutputs(*(x if x is None else x[:, :, span] for x in outputs))
            last = DFINEOutputs(*(x if x is None else x[layers] for x in every))
            edges = EdgePredictions(
                last.logits,
                last.boxes,
                group,
                iou_logits=last.iou_logits,
                corners=last.corners,
                reference=last.reference[0].detach(),
                edges=self.transformer.decoder.edges,
            )
            sets.append(edges)
            if self.aux_loss:
                initial = replace(group, name=f"{group.name}_pre")
                sets.append(Predictions(every.class_logits[:1], every.reference[:1], initial))
        return sets
