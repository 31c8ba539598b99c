"""Classes of queries that answer for several targets.

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detrex.modeling.criterion import Predictions, TwoStageCriterion
from detrex.modeling.losses import ClassLoss, Quality
from detrex.modeling.matcher import Matches


class MrDETRCriterion(TwoStageCriterion):
    """In the groups that are assigned one-to-many, a query that answers for several targets has the
    class of the last one alone, as released."""

    def loss_of(self, predictions: Predictions) -> ClassLoss:
        return self.last_class if predictions.group.one_to_many else super().loss_of(predictions)

    def last_class(
        self, logits: Tensor, matches: Matches, labels: Tensor, quality: Quality
    ) -> Tensor:
        """:meth:`class_loss` of the last match of each query."""
        last = is_last(logits, matches)
        matches, labels = Matches(*(x[last] for x in matches)), labels[last]
        return self.class_loss(
            logits, matches, labels, Quality(quality.iou[last], quality.giou[last])
        )


def is_last(logits: Tensor, matches: Matches) -> Tensor:
    """Whether each match (M,) is the last of its query; logits (L, B, N, K)."""
    place = (matches.layer * logits.shape[1] + matches.image) * logits.shape[2] + matches.query
    number = torch.arange(len(place), device=place.device)
    last = number.new_zeros(logits[..., 0].numel()).scatter_reduce(0, place, number, "amax")
    return last[place] == number
