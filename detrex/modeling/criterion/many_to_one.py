"""k-to-one matching with prime-sample weighting (Align-DETR, Cai et al. 2023, section 3.4).

Legend: L layers, M matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from detrex.modeling.losses import joint_quality
from detrex.modeling.matcher import Matches
from detrex.modeling.predictions import Predictions

from .criterion import TwoStageCriterion


class ManyToOneCriterion(TwoStageCriterion):
    """Several queries answer for a target; all but the best of them count less.

    ``match_num``: queries per target for the encoder's proposals, then for each decoder layer; a
    decoder with fewer layers takes the last entries. Groups beside the primary one keep their own
    assignment. In the primary group, the proposals and groups that are assigned one-to-many, the
    r-th best query of a target, by the quality score^alpha * IoU^(1 - alpha), has its soft target
    and its box losses multiplied by exp(-r / tau); of L1 ("bbox") and "giou" those that
    ``weighted_boxes`` names. The normaliser stays the number of objects. Any ``loss_class_type``
    can be used; proposals get the same.

    Raises:
        ValueError: if ``match_num`` has fewer entries than the decoder has layers.
    """

    usual_set_losses: ClassVar = {}

    def __init__(
        self,
        *args,
        match_num: Sequence[int] = (2, 2, 2, 2, 2, 2, 1),
        tau: float = 1.5,
        loss_class_type: str = "ia_bce_loss",
        weighted_boxes: Sequence[str] = ("bbox", "giou"),
        **rest,
    ) -> None:
        super().__init__(*args, loss_class_type=loss_class_type, **rest)
        self.match_num = tuple(match_num)
        self.weighted_boxes = tuple(weighted_boxes)
        self.tau = tau

    def queries_per_target(self, predictions: Predictions) -> Sequence[int] | None:
        """``match_num`` of the set's layers (L,); None: as many as the group's ``copies``."""
        if predictions.group.name == "_enc":
            return self.match_num[:1]
        if predictions.group.name:
            return None
        layers = len(predictions.logits)
        if layers >= len(self.match_num):
            raise ValueError(
                f"criterion.match_num needs the encoder's and {layers} layers' entries,"
                f" got {list(self.match_num)}"
            )
        return self.match_num[-layers:]

    def weighs(self, kind: str) -> bool:
        return kind not in ("bbox", "giou") or kind in self.weighted_boxes

    def pair_weights(
        self, predictions: Predictions, matches: Matches, labels: Tensor, iou: Tensor
    ) -> Tensor | float:
        group = predictions.group
        if group.name not in ("", "_enc") and not group.one_to_many:
            return 1.0
        logits = predictions.logits.detach().float()
        score = logits[matches.layer, matches.image, matches.query, labels].sigmoid()
        quality = joint_quality(score, iou, self.alpha)
        return torch.exp(-rank_in_bag(quality, matches.bags()) / self.tau)


def rank_in_bag(score: Tensor, bag: Tensor) -> Tensor:
    """Rank (M,) of each score (M,) among those of the same bag number (M,), 0 = best."""
    order = score.argsort(descending=True, stable=True)
    order = order[bag[order].argsort(stable=True)]
    first = torch.searchsorted(bag[order], bag[order])
    rank = torch.arange(len(order), device=order.device) - first
    return torch.empty_like(rank).scatter(0, order, rank)
