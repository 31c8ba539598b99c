"""Class losses that look at localisation, as compared by Align-DETR (tables 1, 4 and B).

All have the form -w_pos ln(s) - w_neg ln(1 - s) with s the score. Where a paper leaves something
open the docstring says "reconstructed" and what was chosen. Without other notice negatives weigh
s^gamma, ``alpha`` is the exponent of the joint quality, and gradients flow through the scores in
the weights (not through targets), as in focal loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .classification import (
    Negative,
    Positive,
    Quality,
    Target,
    focal_negative,
    joint_quality,
    power,
)


def quality_focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Quality focal loss (GFL, Li et al. 2020): target IoU, weight |IoU - s|^gamma."""
    return quality.iou, (quality.iou - p).abs() ** gamma


def varifocal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Varifocal loss (VarifocalNet, Zhang et al. 2021): positives weigh their target, the IoU.

    Negatives, and pairs without overlap, weigh (1 - alpha) s^gamma: 0.75 as published, with the
    alpha of focal loss.
    """
    negative = focal_negative(p, alpha, gamma)
    return quality.iou, torch.where(quality.iou > 0, quality.iou, negative)


def varifocal_detached(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """:func:`varifocal` as RT-DETR, D-FINE and Relation-DETR have it: no gradient flows through
    weights, and a pair without overlap has no loss."""
    return quality.iou, quality.iou


def task_aligned(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Task-aligned loss (TOOD, Feng et al. 2021): target m / max(m) * max(IoU) over the queries of
    the target, m = s * IoU^6, weight |target - s|^gamma. With one query per target it is
    :func:`quality_focal`."""
    tiny = torch.finfo(p.dtype).tiny
    target = aligned_metric(p.detach(), quality.iou, quality.bag, tiny)
    return target, (target - p).abs() ** gamma


def aligned_metric(score: Tensor, iou: Tensor, bag: Tensor, eps: float) -> Tensor:
    """m / (max(m) + eps) * max(IoU) over the pairs (M,) of a bag, m = score * IoU^6 (TOOD)."""
    metric = score * iou**6
    return metric / (over_bag(metric, bag, "amax") + eps) * over_bag(iou, bag, "amax")


def mutual_supervision(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """MuSu (Gao et al. 2021): w_pos = |t - s|^gamma t, w_neg = s^gamma (1 - t)^4.

    Reconstructed: its t is a function of score and IoU; here the joint quality of Align-DETR.
    """
    t = joint_quality(p.detach(), quality.iou, alpha)
    return soft((t - p).abs() ** gamma * t, p**gamma * (1 - t) ** 4)


def dual_weighting(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Dual weighting (DW, Li et al. 2022): w_pos = alpha e^5c c / sum(e^3c c) over the queries of
    the target, c = s e^(-5 (1 - GIoU)); w_neg = s^gamma min(1, (1 - IoU^2) / 0.75).

    Reconstructed: no centre prior (queries have no cells), weights without gradient, the released
    factor of 0.25 on positives as ``alpha``, the normaliser of the criterion.
    """
    s = p.detach()
    c = s * torch.exp(-5 * (1 - quality.giou))
    total = over_bag(torch.exp(3 * c) * c, quality.bag, "sum")
    w_pos = torch.exp(5 * c) * c / total.clamp(min=torch.finfo(c.dtype).tiny)
    return soft(alpha * w_pos, s**gamma * ((1 - quality.iou**2) / 0.75).clamp(max=1))


def ia_bce_focal(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """IoU-aware BCE with a focal factor |t - s|^gamma on positives.

    A candidate for the "Align loss" of Align-DETR's second version, whose formula is not public;
    SAM 3 offers it as an option of its IoU-aware BCE.
    """
    t = joint_quality(p.detach(), quality.iou, alpha)
    return t, (t - p).abs() ** gamma


def align_symmetric(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """w_pos = w_neg = |t - s|^gamma (Align-DETR, table B, row 4): a candidate as above."""
    gap = (joint_quality(p.detach(), quality.iou, alpha) - p).abs() ** gamma
    return soft(gap, gap)


def align_asymmetric(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """w_pos = |t - s|^gamma, w_neg = (1 - t) s^gamma (Align-DETR, table B, row 5): a candidate."""
    t = joint_quality(p.detach(), quality.iou, alpha)
    return soft((t - p).abs() ** gamma, (1 - t) * p**gamma)


def matchability(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """Matchability-aware loss (DEIM, Huang et al. 2025, eq. 3): target IoU^gamma, weight 1.

    Negatives weigh s^gamma, without gradient; ``alpha`` is not used. Published with gamma 1.5.
    """
    return quality.iou**gamma, torch.ones_like(p)


def position_supervised(
    p: Tensor,
    quality: Quality,
    alpha: float,
    gamma: float,
    score_power: float = 0.0,
    iou_power: float = 2.0,
    shape: Callable[[Tensor], Tensor] = lambda t: t,
) -> Target:
    """Position-supervised loss (Stable-DINO, Liu et al. 2023, eq. 4): target IoU^2, scaled so that
    the best pair of each image has target 1; weight alpha |t - s|^gamma.

    Other targets are ``shape(s^score_power * IoU^iou_power)``, before they are scaled.
    """
    target = shape(p.detach() ** score_power * quality.iou**iou_power)
    best = over_bag(target, quality.image, "amax")
    target = target * (1 / (best + 1e-8)).clamp(min=1)  # as released
    return target, alpha * (target - p).abs() ** gamma


def position_supervised_linear(p: Tensor, quality: Quality, alpha: float, gamma: float) -> Target:
    """:func:`position_supervised` as LW-DETR (Chen et al. 2024) and RF-DETR offer it: the target is
    the IoU, divided by the image's highest; a pair without overlap counts as negative."""
    target = quality.iou / (over_bag(quality.iou, quality.image, "amax") + 1e-8)
    balance = torch.where(target > 0, alpha, 1 - alpha)
    return target, balance * (target - p).abs() ** gamma


def soft(w_pos: Tensor, w_neg: Tensor) -> tuple[Tensor, Tensor]:
    """(target, weight) of the loss -w_pos ln(s) - w_neg ln(1 - s)."""
    weight = w_pos + w_neg
    return w_pos / weight.clamp(min=torch.finfo(weight.dtype).tiny), weight


def over_bag(x: Tensor, bag: Tensor, reduce: str) -> Tensor:
    """For each value (M,) the "sum" or "amax" of the non-negative values of its bag (M,)."""
    # not unique(): a GPU would have to tell the host how many bags there are
    index = torch.searchsorted(bag.sort().values, bag)
    return torch.zeros_like(x).scatter_reduce(0, index, x, reduce)[index]


def detached_power(p: Tensor, alpha: float, gamma: float) -> Tensor:
    """p^gamma through which no gradient flows."""
    return p.detach() ** gamma


def detached_focal_negative(p: Tensor, alpha: float, gamma: float) -> Tensor:
    """(1 - alpha) p^gamma through which no gradient flows (RT-DETR's varifocal loss)."""
    return focal_negative(p.detach(), alpha, gamma)


QUALITY_AWARE_LOSSES: dict[str, tuple[Positive, Negative]] = {
    "quality_focal_loss": (quality_focal, power),
    "varifocal_loss": (varifocal, focal_negative),
    "varifocal_detached_loss": (varifocal_detached, detached_focal_negative),
    "task_aligned_loss": (task_aligned, power),
    "musu_loss": (mutual_supervision, power),
    "dual_weighting_loss": (dual_weighting, power),
    "ia_bce_focal_loss": (ia_bce_focal, power),
    "align_symmetric_loss": (align_symmetric, power),
    "align_asymmetric_loss": (align_asymmetric, power),
    "mal_loss": (matchability, detached_power),
    "position_supervised_loss": (position_supervised, focal_negative),
    "position_supervised_linear_loss": (position_supervised_linear, focal_negative),
}
