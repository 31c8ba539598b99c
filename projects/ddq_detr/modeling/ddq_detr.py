"""DDQ's distinct queries (Zhang et al., CVPR 2023, section 3.2) on DINO.

Queries that mean the same place confuse one-to-one supervision: of proposals that overlap the best
is taken, and between decoder layers queries that have come together stop to count.

Legend: B images, L layers, S tokens, N queries, C channels, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from detrex.layers.attention import Rows
from detrex.modeling.criterion import Predictions, TwoStageCriterion
from detrex.modeling.distinct import count_distinct, distinct_first
from detrex.modeling.heads import Heads
from detrex.modeling.matcher import Problems
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import Queries
from detrex.modeling.transformer import Proposals
from detrex.utils.arguments import keep_arguments
from projects.dino.modeling import DINO, DINOTransformerDecoder

HIDDEN = -1e4  # logit of a query that does not count: its score and its class loss are 0


@dataclass
class DistinctQueries(Queries):
    """Queries of which, in the first group, only the ``counted`` (B, N) are supervised and used;
    mask (B, N, N): what the others do not see in self-attention."""

    counted: Tensor | None = None
    mask: Tensor | None = None


class DistinctDecoder(DINOTransformerDecoder):
    """DINO's decoder with distinct queries: after each layer, of queries that overlap by more than
    ``distinct_iou`` the best-scored one counts; the others do not predict, and see only those that
    count. ``as_released``: see :func:`~detrex.modeling.distinct.count_distinct`."""

    def __init__(self, *, distinct_iou: float = 0.8, as_released: bool = True, **dino) -> None:
        super().__init__(**dino)
        self.distinct_iou = distinct_iou
        self.as_released = as_released

    def attention_rows(self, i: int, queries: Queries, rows: tuple[Rows, ...]) -> tuple[Rows, ...]:
        if i == 0:
            return rows
        return (rows[0]._replace(mask=queries.mask[:, None]), *rows[1:])

    def predict(self, i: int, queries: Queries, heads: Heads) -> tuple[tuple[Tensor, ...], Queries]:
        (logits, *others), moved = super().predict(i, queries, heads)
        if i > 0:
            count = queries.counted.shape[1]
            hidden = ~queries.counted[..., None]
            first = logits[:, :count].masked_fill(hidden, HIDDEN)
            logits = torch.cat([first, logits[:, count:]], 1)
        return (logits, *others), moved

    @torch.no_grad()
    def after_layer(self, i: int, queries: Queries, logits: Tensor) -> Queries:
        count = queries.groups[0].size
        content, boxes = queries.content[:, :count], queries.boxes[:, :count]
        if i == 0:
            values = {f.name: getattr(queries, f.name) for f in fields(queries)}
            everyone = torch.ones_like(boxes[..., 0], dtype=torch.bool)
            queries = DistinctQueries(**values, counted=everyone)
        scored = self.class_embed[i](content)  # as released: without the final norm
        options = self.distinct_iou, self.as_released
        counted, mask = count_distinct(scored, boxes, queries.counted, *options)
        return replace(queries, counted=counted, mask=mask)


class DistinctCriterion(TwoStageCriterion):
    """Two-stage criterion that matches no query that does not count."""

    def problems(self, predictions: Predictions, targets: Targets) -> Problems:
        problems = super().problems(predictions, targets)
        hidden = (predictions.logits <= HIDDEN).all(-1).unbind(1)  # (L, N) of each image
        pairs = zip(problems.costs, hidden, strict=True)
        costs = [cost.masked_fill(h[..., None], 1e5) for cost, h in pairs]
        return problems._replace(costs=costs)


class DDQDETR(DINO):
    """DINO whose queries start from distinct proposals, with contents made of their tokens.

    Proposals that overlap a better one by more than ``distinct_iou`` are taken only where there are
    no others. The other arguments are DINO's.
    """

    @keep_arguments
    def __init__(self, *, embed_dim: int, distinct_iou: float = 0.8, **dino) -> None:
        super().__init__(embed_dim=embed_dim, **dino)
        self.distinct_iou = distinct_iou
        self.query_map = nn.Linear(embed_dim, embed_dim)

    def proposal_scores(self, candidates: Proposals) -> Tensor:
        boxes = candidates.boxes(self.bbox_embed[-1]).detach().sigmoid()
        return distinct_first(candidates.logits, boxes, self.distinct_iou)

    def proposed_content(self, top: Proposals) -> Tensor:
        return self.query_map(top.tokens.detach())
