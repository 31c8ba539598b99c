"""Losses on the order of all scores of a layer, over the whole batch of a process.

Rank & Sort (Oksuz et al. 2021) asks that every positive score is above every negative one, and that
positives are in the order of their IoU. Bucketed Rank & Sort (Yavuz et al. 2024) compares positives
with the mean of each run of negatives between two of them: O(n log n) instead of O(P n).

Legend: n scores, P positives, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detrex.modeling.matcher import Matches
from detrex.utils.errors import InputError

from .classification import Quality

ROWS = 64  # positives that are compared with all scores at a time: bounds the memory


class OrderErrors(NamedTuple):
    """Mean ranking and sorting error, in [0, 1], and the update of each score (n,)."""

    ranking: Tensor
    sorting: Tensor
    update: Tensor


class RankSortLoss:
    """Ranking error plus sorting error of each layer; call it like a ``ClassLoss``.

    A matched pair is positive if its IoU is above 0. Errors are means over the positives, and 0
    without any: then no score is pushed anywhere. Their gradient is the papers' identity update.

    ``delta``: scores that differ by less than it are partly in the wrong order.

    Attributes:
        figures: "ranking_error" and "sorting_error" of each layer (L,) of the last call.

    Raises:
        InputError: a ``delta`` that is not above 0.
    """

    is_mean = True  # over positives: no object count divides it

    def __init__(self, delta: float = 0.5, bucketed: bool = False) -> None:
        if not 0 < delta < float("inf"):
            raise InputError(f"criterion.delta must be above 0, got {delta}")
        self.delta = delta
        self.bucketed = bucketed
        self.figures: dict[str, Tensor] = {}

    def __call__(
        self, logits: Tensor, matches: Matches, labels: Tensor, quality: Quality
    ) -> Tensor:
        """(L,) of float32 logits (L, B, N, K) and labels (M,). A pair's place in the order is its
        IoU times its weight."""
        place = torch.arange(logits[0].numel(), device=logits.device).view(logits.shape[1:])
        place = place[matches.image, matches.query, labels]
        target = quality.iou * quality.weight
        errors, moved = [], []
        for i, scores in enumerate(logits.flatten(1)):
            # The other layers' pairs take part as pairs without overlap: shapes are known.
            of_layer = torch.where(matches.layer == i, target, 0.0)
            errors.append(self.errors(scores.detach(), place, of_layer))
            moved.append((scores * errors[-1].update).sum())
        ranking, sorting, _ = map(torch.stack, zip(*errors, strict=True))
        self.figures = {"ranking_error": ranking, "sorting_error": sorting}
        moved = torch.stack(moved)
        return ranking + sorting + moved - moved.detach()

    def errors(self, scores: Tensor, place: Tensor, iou: Tensor) -> OrderErrors:
        """Of scores (n,) and pairs (M,): ``place`` of its score, and its IoU.

        A score that has several pairs counts once, with the highest IoU.
        """
        quality = torch.zeros_like(scores).scatter_reduce(0, place, iou, "amax")
        place = place.sort().values
        first = place.diff(prepend=place.new_tensor([-1])) > 0
        valid = (first & (quality[place] > 0)).to(scores)
        count = valid.sum().clamp(min=1)
        ahead = _ahead(scores[place], scores[place], self.delta) * valid[:, None] * valid
        compare = self.in_buckets if self.bucketed else self.one_by_one
        is_negative = (quality == 0).to(scores)
        ranking, update = compare(scores, place, valid, is_negative, ahead.sum(1))
        sorting, sorted_update = sorting_errors(ahead, quality[place])
        update = update.index_add(0, place, sorted_update)
        return OrderErrors(ranking.sum() / count, sorting.sum() / count, update / count)

    def one_by_one(
        self, scores: Tensor, place: Tensor, valid: Tensor, is_negative: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Ranking errors (M,) and updates (n,): every positive beside every negative."""
        errors, update = [], torch.zeros_like(scores)
        for rows in torch.arange(len(place), device=place.device).split(ROWS):
            above = _ahead(scores[place[rows]], scores, self.delta)
            above = above * is_negative * valid[rows, None]  # (rows, n)
            false = above.sum(1)
            errors.append(_share(false, rank[rows] + false))
            update = update + _share(errors[-1], false) @ above
        error = torch.cat(errors) if errors else scores.new_zeros(0)
        return error, update.index_add(0, place, -error)

    def in_buckets(
        self, scores: Tensor, place: Tensor, valid: Tensor, is_negative: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Ranking errors (M,) and updates (n,): every positive beside the mean of each bucket."""
        lowest = scores[place].where(valid > 0, torch.inf).amin() if len(place) else torch.inf
        counts = is_negative * (scores >= lowest - self.delta)
        is_positive = torch.zeros_like(scores).index_add(0, place, valid)
        # Positives stand before negatives of equal score.
        order = torch.argsort(is_positive, descending=True, stable=True)
        order = order[torch.argsort(scores[order], descending=True, stable=True)]
        bucket = torch.empty_like(order)
        bucket[order] = is_positive[order].cumsum(0).long()
        empty = scores.new_zeros(len(place) + 1)
        size = empty.index_add(0, bucket, counts)
        mean = _share(empty.index_add(0, bucket, counts * scores), size)
        above = _ahead(scores[place], mean, self.delta) * valid[:, None]  # (M, buckets)
        false = above @ size
        error = _share(false, rank + false)
        of_bucket = _share(error, false) @ above
        return error, (of_bucket[bucket] * counts).index_add(0, place, -error)


def sorting_errors(ahead: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """Sorting errors and updates (M,) of positives: ``ahead`` (M, M) is how far the second one of a
    pair is above the first one, 0 where one of them is no positive."""
    not_worse = ahead * (iou >= iou[:, None])
    error = _share(ahead @ (1 - iou), ahead.sum(1)) - _share(
        not_worse @ (1 - iou), not_worse.sum(1)
    )
    worse = ahead - not_worse
    total = worse.sum(1)
    pushed = error * (total > 0)
    return error, _share(pushed, total) @ worse - pushed


def _ahead(of: Tensor, scores: Tensor, delta: float) -> Tensor:
    """How far each of the scores (n,) is above each of ``of`` (M,), in [0, 1]: (M, n)."""
    return ((scores - of[:, None]) / (2 * delta) + 0.5).clamp(0, 1)


def _share(x: Tensor, total: Tensor) -> Tensor:
    """x / total; 0 where the total is."""
    return torch.where(total > 0, x / total.where(total > 0, 1.0), 0.0)
