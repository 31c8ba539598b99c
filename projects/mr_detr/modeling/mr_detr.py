"""Mr. DETR (Zhang et al., CVPR 2025): two further passes of the decoder, supervised one-to-many.

The route "o2m" starts from proposals of heads of its own, "sep" from the queries of inference. Both
are for training only.

Legend: B images, L layers, S tokens, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.modeling.denoising import contrastive_denoising
from detrex.modeling.heads import build_head
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import Memory, Proposals
from detrex.utils import inverse_sigmoid
from detrex.utils.arguments import keep_arguments
from projects.deformable_detr.modeling import DeformableDETR


class MrDETR(DeformableDETR):
    """Two-stage Deformable DETR with the routes "o2m" and "sep", and ``dn_number`` denoising pairs
    per target of an average image on every route (0: none).

    ``route_weight``: factor of the routes' losses, but for denoising.
    ``match_anchors``: proposals are matched by their anchors, not by the boxes predicted there.
    ``mix_scores``: at inference a layer's scores are joined with those of the layer before.
    ``label_noise_ratio`` and ``box_noise_scale`` are those of
    :func:`~detrex.modeling.denoising.contrastive_denoising`. The other arguments are Deformable
    DETR's.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        dn_number: int = 0,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 0.4,
        route_weight: float = 1.0,
        match_anchors: bool = False,
        mix_scores: bool = True,
        **deformable,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim,
            num_classes=num_classes,
            num_queries=num_queries,
            with_box_refine=True,
            as_two_stage=True,
            mixed_selection=True,
            **deformable,
        )
        decoder = self.transformer.decoder
        decoder.class_embed_o2m_encoder, decoder.bbox_embed_enc_o2m = build_head(
            embed_dim, num_classes
        )
        with torch.no_grad():  # as released: this head's boxes start small
            decoder.bbox_embed_enc_o2m.layers[-1].bias[2:] = -2.0
        self.label_enc = nn.Embedding(num_classes, embed_dim) if dn_number else None
        self.dn_number = dn_number
        self.label_noise_ratio, self.box_noise_scale = label_noise_ratio, box_noise_scale
        self.match_anchors, self.mix_scores = match_anchors, mix_scores
        self.one_to_many = QueryGroup(
            size=num_queries,
            weight=route_weight,
            number_last=True,
            number_all=True,
            one_to_many=True,
        )

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is None:
            return queries
        decoder = self.transformer.decoder
        candidates = self.transformer.propose(memory, decoder.class_embed_o2m_encoder)
        box_head = decoder.bbox_embed_enc_o2m
        others = self.start(candidates, box_head, self.groups, "_enc_o2m")
        noised = self.noised(targets) if self.dn_number else None
        routes = (
            self.on_route(others, noised, "o2m", "_group"),
            self.on_route(queries, noised, "sep", "_sep"),
        )
        joined = queries if noised is None else queries.join(noised)
        return replace(joined, routes=routes, proposals=queries.proposals + others.proposals)

    def start(self, candidates: Proposals, *arguments) -> Queries:
        queries = super().start(candidates, *arguments)
        if self.match_anchors:
            anchors = candidates.anchors.sigmoid()[None]
            proposals = (replace(p, matched_boxes=anchors) for p in queries.proposals)
            queries.proposals = tuple(proposals)
        return queries

    def noised(self, targets: list[dict]) -> Queries:
        """Denoising queries, the same on all routes."""
        queries = contrastive_denoising(
            targets, self.label_enc, self.dn_number, self.label_noise_ratio, self.box_noise_scale
        )
        return replace(queries, position=self.transformer.embed_boxes(queries.boxes.logit())[0])

    def on_route(self, queries: Queries, noised: Queries | None, route: str, name: str) -> Queries:
        """Queries and denoising queries on a route, whose losses have the suffix ``name``."""
        group = replace(self.one_to_many, name=name)
        queries = replace(queries, groups=(group,), route=route)
        if noised is None:
            return queries
        group = replace(noised.groups[0], name=f"_dn_{route}", sees=(name,))
        return queries.join(replace(noised, groups=(group,)))

    def scores(self, outputs: Outputs, layer: int = -1) -> Tensor:
        """Logits (B, N, K) of a layer's scores."""
        last = super().scores(outputs, layer)
        if not self.mix_scores or self.training:
            return last
        logits = outputs.logits[: layer % len(outputs.logits) + 1]
        mixed = logits[0]
        for x in logits[1:]:
            score = ((x.sigmoid() ** 2.001 + mixed.sigmoid() ** 1.853) / 2).sqrt()
            mixed = inverse_sigmoid(score, eps=1e-3)
        return mixed
