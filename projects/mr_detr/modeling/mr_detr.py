"""Mr. DETR (Zhang et al., CVPR 2025): two further passes of the decoder, supervised one-to-many.

The route "o2m" starts from proposals of heads of its own, "sep" from the queries of inference.

Legend: B images, L layers, S tokens, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from detrex.modeling.heads import build_head
from detrex.modeling.predictions import Outputs
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import Memory, Proposals
from detrex.utils import inverse_sigmoid
from detrex.utils.arguments import keep_arguments
from projects.deformable_detr.modeling import RoutedDETR


class MrDETR(RoutedDETR):
    """Two-stage Deformable DETR with the routes "o2m" and "sep".

    ``route_weight``: factor of the routes' losses, but for denoising. ``match_anchors``: proposals
    are matched by their anchors, not by the boxes predicted there. ``mix_scores``: at inference a
    layer's scores are joined with those of the layer before. The other arguments are
    :class:`~projects.deformable_detr.modeling.RoutedDETR`'s.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        route_weight: float = 1.0,
        match_anchors: bool = False,
        mix_scores: bool = True,
        **routed,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim, num_classes=num_classes, num_queries=num_queries, **routed
        )
        self.match_anchors, self.mix_scores = match_anchors, mix_scores
        decoder = self.transformer.decoder
        decoder.class_embed_o2m_encoder, box_head = build_head(embed_dim, num_classes)
        nn.init.constant_(box_head.layers[-1].bias[2:].detach(), -2.0)  # as released: small boxes
        decoder.bbox_embed_enc_o2m = box_head
        self.one_to_many = QueryGroup(
            size=num_queries,
            weight=route_weight,
            number_last=True,
            number_all=True,
            one_to_many=True,
            ranked=False,
        )

    def routes(self, queries: Queries, memory: Memory) -> list[Queries]:
        decoder = self.transformer.decoder
        candidates = self.transformer.propose(memory, decoder.class_embed_o2m_encoder)
        groups = (replace(self.one_to_many, name="_group"),)
        others = self.start(candidates, decoder.bbox_embed_enc_o2m, groups, "_enc_o2m")
        groups = (replace(self.one_to_many, name="_sep"),)
        same = replace(queries, groups=groups, route="sep", proposals=())
        return [replace(others, route="o2m"), same]

    def start(self, candidates: Proposals, *arguments) -> Queries:
        queries = super().start(candidates, *arguments)
        if self.match_anchors:
            anchors = candidates.anchors.sigmoid()[None]
            proposals = (replace(p, matched_boxes=anchors) for p in queries.proposals)
            queries.proposals = tuple(proposals)
        return queries

    def scores(self, outputs: Outputs, layer: int = -1) -> Tensor:
        """Logits (B, N, K) of a layer's scores, mixed with those of the layers before."""
        if not self.mix_scores or self.training:
            return super().scores(outputs, layer)
        first, *others = outputs.logits[: layer % len(outputs.logits) + 1]
        for x in others:
            score = ((x.sigmoid() ** 2.001 + first.sigmoid() ** 1.853) / 2).sqrt()
            first = inverse_sigmoid(score)
        return first
