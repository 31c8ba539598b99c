"""Classes of queries that answer for several targets.

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.criterion.criterion import Pairs
from detrex.modeling.matcher import Matches


class MrDETRCriterion(TwoStageCriterion):
    """In the groups that are assigned one-to-many, a query that answers for several targets has the
    class of the last one alone, as released."""

    def class_loss_of_set(
        self, pairs: Pairs, weight: Tensor | float, scale: Tensor | float
    ) -> Tensor:
        if pairs.predictions.group.one_to_many:
            last = is_last(pairs.predictions.logits, pairs.matches)
            (chosen,) = last.nonzero(as_tuple=True)  # the host waits for their number
            matches = Matches(*(x[chosen] for x in pairs.matches))
            values = {name: getattr(pairs, name)[chosen] for name in ("labels", "iou", "giou")}
            pairs = pairs._replace(matches=matches, **values)
        return super().class_loss_of_set(pairs, weight, scale)


def is_last(logits: Tensor, matches: Matches) -> Tensor:
    """Whether each match (M,) is the last of its query; logits (L, B, N, K)."""
    place = (matches.layer * logits.shape[1] + matches.image) * logits.shape[2] + matches.query
    number = torch.arange(len(place), device=place.device)
    last = number.new_zeros(logits[..., 0].numel()).scatter_reduce(0, place, number, "amax")
    return last[place] == number
