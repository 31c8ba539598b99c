"""DDQ's dense auxiliary branch (Zhang et al., CVPR 2023), for training alone: more
queries, not distinct, with heads of their own, several of which answer for each target.

It goes with any two-stage deformable detector. At inference nothing of it is left.

Legend: B images, L layers, N queries, G targets of an image, K classes, M matches; boxes are cxcywh
in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detrex.layers import box_cxcywh_to_xyxy
from detrex.modeling.criterion.criterion import Pairs
from detrex.modeling.heads import Heads, build_heads
from detrex.modeling.losses import ClassLoss, Quality
from detrex.modeling.losses.classification import Target, power
from detrex.modeling.losses.quality_aware import aligned_metric
from detrex.modeling.matcher import HungarianMatcher, Matches, Problems
from detrex.modeling.matcher.matcher import Targets, focal_loss_cost, pair_costs
from detrex.modeling.predictions import Outputs, Predictions
from detrex.modeling.queries import Queries, QueryGroup
from detrex.modeling.transformer import Memory
from detrex.utils.arguments import keep_arguments
from detrex.utils.dist import mean_over_ranks
from detrex.utils.errors import InputError

from .distinct_queries import HIDDEN

DENSE = "_dense"  # the route, its group and, before "_enc", its proposals


class DenseBranch:
    """Mixed into a two-stage detector: ``dense_ratio`` times as many queries as the first group has
    start from the proposals of further heads, go through the decoder as a route, and answer
    ``k_dense`` for each target (0: no branch). The criterion is one with :class:`DDQLosses`.

    Raises:
        InputError: the detector has one stage, or a ``dense_ratio`` that leaves no query.
    """

    @keep_arguments
    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        k_dense: int = 4,
        dense_ratio: float = 1.5,
        **detector,
    ) -> None:
        super().__init__(embed_dim=embed_dim, num_classes=num_classes, **detector)
        if k_dense and not self.transformer.as_two_stage:
            raise InputError(f"model.k_dense={k_dense} needs model.as_two_stage=True, or give 0")
        size = int(dense_ratio * self.groups[0].size)
        if size < 1:
            raise InputError(f"model.dense_ratio must leave a query, got {dense_ratio}")
        self.dense = QueryGroup(DENSE, size, copies=k_dense, ranked=False, number_last=True)
        if k_dense:
            layers = self.transformer.decoder.num_layers
            self.query_map = nn.Linear(embed_dim, embed_dim)
            self.dense_class_embed, self.dense_bbox_embed = build_heads(
                embed_dim, num_classes, layers, refine=True, two_stage=True
            )

    def make_queries(self, memory: Memory, targets: list[dict] | None) -> Queries:
        queries = super().make_queries(memory, targets)
        if targets is None or not self.dense.copies:
            return queries
        route = self.dense_queries(memory, with_position=queries.position is not None)
        proposals = queries.proposals + route.proposals
        return replace(queries, routes=(*queries.routes, route), proposals=proposals)

    def dense_queries(self, memory: Memory, with_position: bool) -> Queries:
        """The best proposals of the branch's heads, which are supervised, too."""
        candidates = self.transformer.propose(memory, self.dense_class_embed[-1])
        top = candidates.top(self.dense.size, candidates.logits.amax(-1))
        start = top.boxes(self.dense_bbox_embed[-1])  # (B, N, 4) before the sigmoid
        position = self.transformer.embed_boxes(start.detach())[0] if with_position else None
        group = replace(self.dense, name=f"{DENSE}_enc")
        supervised = Predictions(top.logits[None], start.sigmoid()[None], group, "encoder")
        return Queries(
            self.query_map(top.memory.detach()),
            position,
            start.detach().sigmoid(),
            (self.dense,),
            proposals=(supervised,),
            route=DENSE,
        )

    def route_sets(self, route: Queries, memory: Memory, outputs: Outputs) -> list[Predictions]:
        if route.route != DENSE:
            return super().route_sets(route, memory, outputs)
        heads = Heads(self.dense_class_embed, self.dense_bbox_embed, self.heads_refine)
        return self.supervised_sets(self.transformer.decoder(route, memory, heads), route.groups)


class DenseMatcher(HungarianMatcher):
    """The cost of the branch's matching, as released: L1 is that of corners, and the focal cost
    takes scores for logits, so that they count little."""

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        cost = pair_costs(boxes, gt, l1=0.0, giou=-self.cost_giou, iou=0.0)
        corners = box_cxcywh_to_xyxy(gt).to(boxes).expand(len(boxes), -1, -1)
        l1 = torch.cdist(corners, box_cxcywh_to_xyxy(boxes), p=1).mT
        score = focal_loss_cost(logits.sigmoid(), labels, self.alpha, self.gamma)
        return cost + self.cost_bbox * l1 + self.cost_class * score


class DDQLosses:
    """Mixed into a criterion: queries that do not count are not matched, and dense queries have the
    losses of the branch.

    :class:`DenseMatcher` assigns the group's ``copies`` queries to each target, fewer where queries
    run out. Of a pair t = m / (max(m) + 1e-7) * max(IoU), m = score * IoU^6, over the queries of
    its target, is the soft target of a quality focal loss and the factor of 1 - GIoU. Both losses
    are divided by the sum of t; there is no L1. As released, dense queries of an image without
    objects have no loss.
    """

    def __init__(self, *args, **criterion) -> None:
        super().__init__(*args, **criterion)
        self.dense_matcher = DenseMatcher(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0)
        self.set_losses.setdefault(DENSE, ClassLoss(weight_focal, power, self.alpha, self.gamma))

    def problems(self, predictions: Predictions, targets: Targets) -> Problems:
        logits, group = predictions.logits, predictions.group
        if is_dense(group):
            costs = self.dense_matcher.costs(logits, predictions.boxes, targets)
            return Problems(costs, [group.copies] * len(logits), share=1.0)
        problems = super().problems(predictions, targets)
        if group.name:
            return problems
        hidden = is_hidden(logits).all(-1).unbind(1)  # (L, N) of each image
        pairs = zip(problems.costs, hidden, strict=True)
        return problems._replace(costs=[x.masked_fill(h[..., None], 1e5) for x, h in pairs])

    def losses_of_pairs(
        self, pairs: Pairs, kinds: Sequence[str], scale: Tensor | float
    ) -> dict[str, Tensor]:
        predictions, matches = pairs.predictions, pairs.matches
        if not is_dense(predictions.group):
            return super().losses_of_pairs(pairs, kinds, scale)
        weight = self.pair_weights(predictions, matches, pairs.labels, pairs.iou)
        total = weight.new_zeros(len(predictions.logits)).index_add(0, matches.layer, weight)
        scale = 1 / mean_over_ranks(total, total.device).clamp(min=1)  # (L,)
        empty = torch.ones_like(predictions.logits[0, :, :1, :1], dtype=torch.bool)  # (B, 1, 1)
        empty = empty.index_fill(0, matches.image, False)
        predictions = replace(predictions, logits=predictions.logits.masked_fill(empty, HIDDEN))
        pairs = pairs._replace(predictions=predictions)
        losses = super().losses_of_pairs(pairs, kinds, scale)
        losses.pop("bbox", None)
        return losses

    def pair_weights(
        self, predictions: Predictions, matches: Matches, labels: Tensor, iou: Tensor
    ) -> Tensor | float:
        logits = predictions.logits.detach()[(*matches.place, labels)].float()  # (M,)
        if is_dense(predictions.group):
            return aligned_metric(logits.sigmoid(), iou, matches.bags(), 1e-7)
        # With fewer queries that count than targets some are matched with one that does not.
        return super().pair_weights(predictions, matches, labels, iou) * ~is_hidden(logits)


def is_dense(group: QueryGroup) -> bool:
    return group.name.startswith(DENSE)


def is_hidden(logits: Tensor) -> Tensor:
    """Which logits are those of a query that does not count; low precision has rounded them, and a
    bias may have moved them."""
    return logits < HIDDEN / 2


def weight_focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Quality focal loss whose soft target is the weight of the pair alone."""
    return torch.ones_like(p), (quality.weight - p).abs() ** gamma
