"""``aligndetr.criterions`` of Align-DETR's repository."""

from __future__ import annotations

from collections.abc import Sequence

from detrex.modeling import criterion
from detrex.modeling.criterion import ManyToOneCriterion as AlignDETRCriterion

__all__ = ["AlignDETRCriterion", "ManyToOneCriterion"]


class ManyToOneCriterion(criterion.ManyToOneCriterion):
    """The criterion of Align-DAB-DETR, which calls its counts ``match_number``."""

    def __init__(self, *args, match_number: Sequence[int], **rest) -> None:
        super().__init__(*args, match_num=match_number, **rest)

    def queries_per_target(self, predictions: criterion.Predictions) -> Sequence[int] | None:
        """As upstream: a decoder with fewer layers takes the first entries, not the last."""
        counts = super().queries_per_target(predictions)
        return counts if predictions.group.name else self.match_num[1 : len(counts) + 1]
