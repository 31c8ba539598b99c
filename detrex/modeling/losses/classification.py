"""Class losses, each as (soft target, weight) of a weighted binary cross-entropy.

A class loss is a function ``(p, positive, quality, alpha, gamma) -> (target, weight)``:
``p`` are scores in [0, 1]; ``positive`` says whether they belong to a query and the class of its
target; ``quality`` holds the overlaps of these pairs (None for negatives).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Quality(NamedTuple):
    """Overlap of each matched pair, (M,), without gradient: IoU in [0, 1], GIoU in [-1, 1].

    ``weight`` scales the pair's soft target (prime-sample weighting of Align-DETR); ``bag`` (M,) is
    a number that the queries of the same layer and target share.
    """

    iou: Tensor
    giou: Tensor
    weight: Tensor | float = 1.0
    bag: Tensor | None = None


ClassLoss = Callable[..., tuple[Tensor | float, Tensor]]


def focal(
    p: Tensor, positive: bool, quality: Quality | None, alpha: float, gamma: float
) -> tuple[float, Tensor]:
    """Focal loss (Lin et al. 2017, eq. 5)."""
    return (1.0, alpha * (1 - p) ** gamma) if positive else (0.0, (1 - alpha) * p**gamma)


def giou_focal(
    p: Tensor, positive: bool, quality: Quality | None, alpha: float, gamma: float
) -> tuple[Tensor | float, Tensor]:
    """GIoU-aware focal loss (Rank-DETR, eq. 4): the target is t = (GIoU + 1) / 2.

    As in the released code, not the paper: positives are weighted by alpha, negatives by
    1 - alpha. The gradient flows through |t - p|^gamma.
    """
    if not positive:
        return focal(p, positive, quality, alpha, gamma)
    target = (quality.giou + 1) / 2
    return target, alpha * (target - p).abs() ** gamma


def joint_quality(score: Tensor, iou: Tensor, alpha: float) -> Tensor:
    """score^alpha * IoU^(1 - alpha), at least 0.01 as in the released code (Align-DETR, eq. 4)."""
    return (score**alpha * iou ** (1 - alpha)).clamp(min=0.01)


def ia_bce(
    p: Tensor, positive: bool, quality: Quality | None, alpha: float, gamma: float
) -> tuple[Tensor | float, Tensor | float]:
    """IoU-aware BCE (Align-DETR, eq. 5): its target joins score and IoU."""
    if not positive:
        return 0.0, p**gamma
    return joint_quality(p.detach(), quality.iou, alpha), 1.0


BASIC_LOSSES: dict[str, ClassLoss] = {
    "focal_loss": focal,
    "giou_focal_loss": giou_focal,
    "ia_bce_loss": ia_bce,
}


def weighted_bce(logits: Tensor, target: Tensor | float, weight: Tensor) -> Tensor:
    """weight * BCE(sigmoid(logits), target), finite for any finite logit."""
    return weight * (F.softplus(logits) - target * logits)
