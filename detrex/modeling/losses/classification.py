"""Class losses, each as (soft target, weight) of a weighted binary cross-entropy.

What distinguishes them is a function ``(p, quality, alpha, gamma) -> (target, weight)`` for the
matched pairs: ``p`` (M,) is the score of the target's class, ``quality`` the overlap. All other
scores are negatives: target 0, weight p^gamma, in focal loss and its kin times 1 - alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .negatives import NegativesAndMatched, negative_sums


class Quality(NamedTuple):
    """Overlap of each matched pair, (M,), without gradient: IoU in [0, 1], GIoU in [-1, 1].

    ``weight`` scales the pair's soft target (prime-sample weighting of Align-DETR); ``bag`` (M,) is
    a number that the queries of the same layer and target share.
    """

    iou: Tensor
    giou: Tensor
    weight: Tensor | float = 1.0
    bag: Tensor | None = None


Target = tuple[Tensor | float, Tensor | float]  # soft target in [0, 1] and weight
Positive = Callable[[Tensor, Quality, float, float], Target]


@dataclass(frozen=True)
class ClassLoss:
    """A class loss with its parameters; ``balanced``: negatives weigh 1 - alpha; ``detached``: no
    gradient flows through the weights of negatives."""

    positive: Positive
    alpha: float
    gamma: float
    balanced: bool
    detached: bool = False

    @property
    def scale(self) -> float:
        return 1 - self.alpha if self.balanced else 1.0

    def positives(self, logits: Tensor, quality: Quality) -> Tensor:
        """Loss (M,) of matched pairs, by the logits (M,) of their classes."""
        target, weight = self.positive(logits.sigmoid(), quality, self.alpha, self.gamma)
        return weighted_bce(logits, target * quality.weight, weight)

    def sum_as_negatives(self, logits: Tensor) -> Tensor:
        """Loss of float32 logits (L, B, N, K) that belong to no target, summed in each layer (L,);
        without gradient, which comes from :meth:`with_matched`."""
        return negative_sums(logits, self.scale, self.gamma)

    def with_matched(
        self, logits: Tensor, sums: Tensor, place: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The sums without the matched logits, and those (M,), both with gradients."""
        options = (self.scale, self.gamma, self.detached)
        return NegativesAndMatched.apply(logits, sums, *options, *place)


def focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Focal loss (Lin et al. 2017, eq. 5)."""
    return 1.0, alpha * (1 - p) ** gamma


def giou_focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """GIoU-aware focal loss (Rank-DETR, eq. 4): the target is t = (GIoU + 1) / 2.

    As in the released code, not the paper: positives are weighted by alpha, negatives by
    1 - alpha. The gradient flows through |t - p|^gamma.
    """
    target = (quality.giou + 1) / 2
    return target, alpha * (target - p).abs() ** gamma


def joint_quality(score: Tensor, iou: Tensor, alpha: float) -> Tensor:
    """score^alpha * IoU^(1 - alpha), at least 0.01 as in the released code (Align-DETR, eq. 4)."""
    return (score**alpha * iou ** (1 - alpha)).clamp(min=0.01)


def ia_bce(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """IoU-aware BCE (Align-DETR, eq. 5): its target joins score and IoU."""
    return joint_quality(p.detach(), quality.iou, alpha), 1.0


# name: the function of matched pairs, and further fields of ClassLoss
BASIC_LOSSES: dict[str, tuple[Positive | bool, ...]] = {
    "focal_loss": (focal, True),
    "giou_focal_loss": (giou_focal, True),
    "ia_bce_loss": (ia_bce, False),
}


def weighted_bce(logits: Tensor, target: Tensor | float, weight: Tensor | float) -> Tensor:
    """weight * BCE(sigmoid(logits), target), finite for any finite logit."""
    return weight * (F.softplus(logits) - target * logits)
