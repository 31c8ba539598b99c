"""``aligndetr.criterions`` of Align-DETR's repository."""

from __future__ import annotations

from collections.abc import Sequence

from detrex.modeling import criterion
from detrex.modeling.criterion import ManyToOneCriterion as AlignDETRCriterion
from detrex.utils.api import unknown_name

__all__ = ["AlignDETRCriterion", "ManyToOneCriterion"]


class ManyToOneCriterion(criterion.ManyToOneCriterion):
    """The criterion of Align-DAB-DETR, which calls its counts ``match_number``."""

    def __init__(self, *args, match_number: Sequence[int], **rest) -> None:
        super().__init__(*args, match_num=match_number, **rest)


__getattr__ = unknown_name(__name__)
