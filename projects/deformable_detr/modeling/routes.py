"""Deformable DETR whose decoder runs again in training, over further queries (routes).

Legend: B images, L layers, N queries, C channels; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from detrex.modeling.denoising import contrastive_denoising
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import Memory
from detrex.utils.arguments import keep_arguments

from .deformable_detr import DeformableDETR


class RoutedDETR(DeformableDETR):
    """Two-stage Deformable DETR; a method's routes are made in :meth:`routes`.

    ``dn_number``: denoising pairs per target of an average image, the same on every route (0:
    none); ``label_noise_ratio`` and ``box_noise_scale`` are those of
    :func:`~detrex.modeling.denoising.contrastive_denoising`. The other arguments are Deformable
    DETR's.
    """

    spare_labels = 0  # rows of the label embedding that no class has

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        dn_number: int = 100,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 0.4,
        **deformable,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim,
            num_classes=num_classes,
            with_box_refine=True,
            as_two_stage=True,
            mixed_selection=True,
            **deformable,
        )
        rows = num_classes + self.spare_labels
        self.label_enc = nn.Embedding(rows, embed_dim) if dn_number else None
        self.dn_number = dn_number
        self.label_noise_ratio, self.box_noise_scale = label_noise_ratio, box_noise_scale

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is None:
            return queries
        routes = self.routes(queries, memory)
        if self.dn_number:
            noised = self.noised(targets)
            routes = [route.join(_on_route(noised, route)) for route in routes]
            queries = queries.join(noised)
        proposals = [p for q in (queries, *routes) for p in q.proposals]
        return replace(queries, routes=tuple(routes), proposals=tuple(proposals))

    def routes(self, queries: Queries, memory: Memory) -> list[Queries]:
        """The queries of further passes, each with the name of its route, one group, and the
        proposals that are supervised for it; ``queries`` are those of inference."""
        raise NotImplementedError

    def noised(self, targets: list[dict]) -> Queries:
        """Denoising queries, the same on all routes."""
        queries = contrastive_denoising(
            targets,
            self.label_enc,
            self.dn_number,
            self.label_noise_ratio,
            self.box_noise_scale,
            spare_labels=self.spare_labels,
            eps=self.transformer.decoder.eps,
        )
        # Their boxes are made before the sigmoid, by an inverse that keeps them inside (0, 1).
        return replace(queries, position=self.transformer.embed_boxes(queries.boxes.logit())[0])


def _on_route(noised: Queries, route: Queries) -> Queries:
    """Denoising queries that see the queries of a route."""
    name = f"_dn_{route.route}"
    group = replace(noised.groups[0], name=name, sees=(route.groups[0].name,))
    return replace(noised, groups=(group,))
