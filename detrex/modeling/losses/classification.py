"""Class losses, each as (soft target, weight) of a weighted binary cross-entropy.

A loss is two functions. ``positive(p, quality, alpha, gamma) -> (target, weight)`` is of the
matched pairs: ``p`` (M,) is the score of the target's class, ``quality`` the overlap with it.
``negative(p, alpha, gamma) -> weight`` is of all other scores, whose target is 0.

Legend: B images, L layers, N queries, K classes, M matches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detrex.modeling.matcher import Matches


class Quality(NamedTuple):
    """Overlap of each matched pair, (M,), without gradient: IoU in [0, 1], GIoU in [-1, 1].

    ``weight`` scales the pair's soft target (prime-sample weighting of Align-DETR). ``bag`` (M,) is
    a number that the queries of the same layer and target share, ``image`` (M,) one that the pairs
    of the same layer and image share.
    """

    iou: Tensor
    giou: Tensor
    weight: Tensor | float = 1.0
    bag: Tensor | None = None
    image: Tensor | None = None


Target = tuple[Tensor, Tensor]  # soft target in [0, 1] and weight
Positive = Callable[[Tensor, Quality, float, float], Target]
Negative = Callable[[Tensor, float, float], Tensor]


class ClassLoss:
    """A class loss with its focal parameters: sum over queries and classes of

        weight * (-target * log(p) - (1 - target) * log(1 - p)),   p = sigmoid(logit)

    where ``positive`` gives target and weight of the matched pairs, and ``negative`` the weight of
    all other scores, whose target is 0. A call returns the sum of each layer.
    """

    is_mean = False  # a sum, which the criterion divides by the number of objects

    def __init__(self, positive: Positive, negative: Negative, alpha: float, gamma: float) -> None:
        self.positive = partial(positive, alpha=alpha, gamma=gamma)
        self.negative = partial(negative, alpha=alpha, gamma=gamma)

    def __call__(
        self, logits: Tensor, matches: Matches, labels: Tensor, quality: Quality
    ) -> Tensor:
        """The loss of each layer (L,): float32 logits (L, B, N, K), labels (M,) of the matches. A
        logit that two pairs share counts once."""
        p, place = logits.sigmoid(), (*matches.place, labels)
        target, weight = self.positive(p[place], quality)  # (M,) each
        target = torch.zeros_like(p).index_put(place, target * quality.weight)
        weight = self.negative(p).index_put(place, weight)
        return (weight * self.cross_entropy(logits, target)).flatten(1).sum(1)

    def cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of each logit with its target in [0, 1], both (L, B, N, K)."""
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Focal loss (Lin et al. 2017, eq. 5)."""
    return torch.ones_like(p), alpha * (1 - p) ** gamma


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
    return joint_quality(p.detach(), quality.iou, alpha), torch.ones_like(p)


def power(p: Tensor, alpha: float, gamma: float) -> Tensor:
    """p^gamma."""
    return p**gamma


def focal_negative(p: Tensor, alpha: float, gamma: float) -> Tensor:
    """(1 - alpha) p^gamma, as in focal loss."""
    return (1 - alpha) * p**gamma


# name: the functions of matched pairs and of negatives
BASIC_LOSSES: dict[str, tuple[Positive, Negative]] = {
    "focal_loss": (focal, focal_negative),
    "giou_focal_loss": (giou_focal, focal_negative),
    "ia_bce_loss": (ia_bce, power),
}
