"""Conditional DETR (Meng et al., ICCV 2021): every query looks around a point of its own."""

from __future__ import annotations

from dataclasses import replace

from detrex.modeling.queries import Queries
from detrex.modeling.single_scale import LearnedQueryDetector
from detrex.modeling.transformer import DenseMemory


class ConditionalDETR(LearnedQueryDetector):
    """A query's learned position names the point where it looks and from which its box is measured.

    The arguments are :class:`detrex.modeling.single_scale.SingleScaleDetector`'s.
    """

    def make_queries(self, memory: DenseMemory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        points = self.transformer.decoder.ref_point_head(queries.position).float().sigmoid()
        return replace(queries, boxes=points)  # (B, N, 2)
