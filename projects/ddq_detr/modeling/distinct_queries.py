"""Distinct queries (DDQ, Zhang et al., CVPR 2023, section 3.2) for any two-stage deformable
detector and its decoder.

Queries that mean the same place confuse one-to-one supervision: of proposals that overlap the best
is taken, and between decoder layers queries that have come together stop to count.

Legend: B images, S tokens, N queries, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from detrex.layers.attention import Rows
from detrex.modeling.distinct import count_distinct, distinct_first
from detrex.modeling.heads import Heads
from detrex.modeling.queries import Queries, query_count
from detrex.modeling.transformer import Proposals
from detrex.utils.arguments import keep_arguments
from detrex.utils.errors import InputError

HIDDEN = -1e4  # logit of a query that does not count: its score and its class loss are 0


@dataclass
class DistinctQueries(Queries):
    """Queries of which, in the first group, only the ``counted`` (B, N) are supervised and used;
    mask (B, N, N): what the others do not see in self-attention."""

    counted: Tensor | None = None
    mask: Tensor | None = None

    def reorder(self, order: Tensor) -> DistinctQueries:
        first = order[:, : self.counted.shape[1]]  # groups are re-ordered inside themselves
        rows = self.mask.gather(1, first[:, :, None].expand_as(self.mask))
        mask = rows.gather(2, first[:, None].expand_as(self.mask))
        return replace(super().reorder(order), counted=self.counted.gather(1, first), mask=mask)


class DistinctLayers:
    """Mixed into a decoder of two stages: after each layer, of queries of the first group that
    overlap by more than ``distinct_iou`` the best-scored one counts; the others do not predict, and
    see only those that count.

    ``as_released``: see :func:`~detrex.modeling.distinct.count_distinct`. Where the decoder sorts
    its queries, "first" is the place before that. The host waits for the device once a layer.
    """

    @keep_arguments
    def __init__(self, *, distinct_iou: float = 0.8, as_released: bool = True, **decoder) -> None:
        super().__init__(**decoder)
        self.distinct_iou, self.as_released = distinct_iou, as_released

    def attention_rows(self, i: int, queries: Queries, rows: tuple[Rows, ...]) -> tuple[Rows, ...]:
        rows = super().attention_rows(i, queries, rows)
        if not isinstance(queries, DistinctQueries):
            return rows
        mask, bias = queries.mask[:, None], rows[0].mask  # (B, 1, N, N), (B, heads, N, N)
        mask = mask if bias is None else bias.masked_fill(mask, -torch.inf)
        return (rows[0]._replace(mask=mask), *rows[1:])

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        (logits, *others), moved = super().predict(i, queries, heads)
        if isinstance(queries, DistinctQueries):
            count = queries.counted.shape[1]
            first = logits[:, :count].masked_fill(~queries.counted[..., None], HIDDEN)
            logits = torch.cat([first, logits[:, count:]], 1)
        return (logits, *others), moved

    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        if not queries.route:
            queries = self.count(i, queries)
        return super().after_layer(i, queries, logits)

    @torch.no_grad()
    def count(self, i: int, queries: Queries) -> DistinctQueries:
        """The queries with what counts after layer ``i``."""
        number = queries.groups[0].size
        content, boxes = queries.content[:, :number], queries.boxes[:, :number]
        if not isinstance(queries, DistinctQueries):
            values = {f.name: getattr(queries, f.name) for f in fields(queries)}
            everyone = torch.ones_like(boxes[..., 0], dtype=torch.bool)
            queries = DistinctQueries(**values, counted=everyone)
        scored = self.class_embed[i](content)  # as released: without a final norm
        options = self.distinct_iou, self.as_released
        counted, mask = count_distinct(scored, boxes, queries.counted, *options)
        return replace(queries, counted=counted, mask=mask)


class DistinctProposals:
    """Mixed into a two-stage detector: proposals that overlap a better one by more than
    ``distinct_iou`` become queries only where there are no others. The host waits for the device:
    see :func:`~detrex.modeling.distinct.distinct_first`.

    Raises:
        InputError: the detector has one stage, or a first group of several blocks.
    """

    @keep_arguments
    def __init__(self, *, distinct_iou: float = 0.8, **detector) -> None:
        super().__init__(**detector)
        self.distinct_iou = distinct_iou
        if not self.transformer.as_two_stage:
            raise InputError("distinct queries are proposals: set model.as_two_stage=True")
        if (blocks := self.groups[0].blocks) > 1:
            raise InputError(
                f"model.groups: distinct queries see each other, so give the first group one block,"
                f" not {blocks}"
            )

    @torch.no_grad()
    def proposal_scores(self, candidates: Proposals, box_head: nn.Module) -> Tensor:
        scores = super().proposal_scores(candidates, box_head)
        if candidates.padding is not None:  # it must not count as distinct
            scores = scores.masked_fill(candidates.padding, -torch.inf)
        boxes = candidates.boxes(box_head).sigmoid()
        count = query_count(self.active_groups)
        return distinct_first(scores, boxes, self.distinct_iou, count)
