"""Classes of queries that answer for several targets.

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.losses import Quality
from detrex.modeling.matcher import Matches


class MrDETRCriterion(TwoStageCriterion):
    """A query that answers for several targets has the class of the last one alone, as released."""

    def class_loss(
        self, logits: Tensor, matches: Matches, labels: Tensor, quality: Quality
    ) -> Tensor:
        return super().class_loss(logits, matches, last_labels(logits, matches, labels), quality)


def last_labels(logits: Tensor, matches: Matches, labels: Tensor) -> Tensor:
    """Of each match the label (M,) of its query's last match; logits (L, B, N, K)."""
    place = (matches.layer * logits.shape[1] + matches.image) * logits.shape[2] + matches.query
    number = torch.arange(len(place), device=place.device)
    last = number.new_zeros(logits[..., 0].numel()).scatter_reduce(0, place, number, "amax")
    return labels[last[place]]
