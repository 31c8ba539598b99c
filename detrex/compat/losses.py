"""Upstream's loss functions and modules, over PyTorch and torchvision.

``reduction`` is "none", "mean" or "sum"; with ``avg_factor`` a mean is the sum divided by it.
``weight`` has the shape of the loss before that. Our models take theirs from
:mod:`detrex.modeling.losses`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Raises ValueError for an unknown reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction {reduction!r}: not one of none, mean, sum")
    return loss if reduction == "none" else getattr(loss, reduction)()


def weight_reduce_loss(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Raises ValueError for an unknown reduction, and for a sum with ``avg_factor``."""
    loss = loss if weight is None else loss * weight
    if avg_factor is None or reduction == "none":
        return reduce_loss(loss, reduction)
    if reduction != "mean":
        raise ValueError('avg_factor can not be used with reduction="sum"')
    return loss.sum() / (avg_factor + torch.finfo(loss.dtype).eps)


def sigmoid_focal_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Focal loss (Lin et al. 2017) of logits and of targets in [0, 1] of the same shape."""
    loss = ops.sigmoid_focal_loss(preds.float(), targets.float(), alpha, gamma)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def focal_loss_with_prob(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Focal loss of probabilities (N, K) and class indices (N,), K = no class."""
    loss = ops.sigmoid_focal_loss(preds.logit(), _one_hot(targets, preds), alpha, gamma)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def cross_entropy(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | None = None,
    ignore_index: int | None = -100,
    avg_non_ignore: bool = False,
) -> Tensor:
    """Softmax cross-entropy of logits (N, K) and class indices (N,). As upstream: the mean is over
    all entries, also ignored ones unless ``avg_non_ignore``, whatever their class weights."""
    ignored = -100 if ignore_index is None else ignore_index
    loss = F.cross_entropy(preds, targets, class_weight, ignore_index=ignored, reduction="none")
    if avg_factor is None and avg_non_ignore and reduction == "mean":
        avg_factor = (targets != ignored).sum().item()
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def l1_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Absolute differences of tensors of one shape; zero without targets."""
    if not targets.numel():
        return preds.sum() * 0
    loss = F.l1_loss(preds, targets, reduction="none")
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def smooth_l1_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    beta: float = 1.0,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """As :func:`l1_loss`, but quadratic below differences of ``beta``."""
    if not targets.numel():
        return preds.sum() * 0
    loss = F.smooth_l1_loss(preds, targets, reduction="none", beta=beta)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def giou_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-6,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) of boxes (N, 4), x0, y0, x1, y1; zero without targets."""
    if not targets.numel():
        return preds.sum() * 0
    loss = ops.generalized_box_iou_loss(preds, targets, eps=eps)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def dice_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-4,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """1 - Dice (Milletari et al. 2016) of probabilities (N, ...) and targets in [0, 1] alike, one
    is added to both sides of the fraction."""
    preds, targets = preds.flatten(1), targets.flatten(1).float()
    both = 2 * (preds * targets).sum(1) + eps
    loss = 1 - (both + 1) / (preds.sum(1) + targets.sum(1) + eps + 1)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def _one_hot(targets: Tensor, preds: Tensor) -> Tensor:
    """Class indices (N,), K = no class, as (N, K) of the predictions' dtype."""
    count = preds.shape[1]
    return F.one_hot(targets, count + 1)[:, :count].to(preds.dtype)


class _Weighted(nn.Module):
    """``loss_weight`` times :meth:`loss`, which a subclass says."""

    loss_weight: float

    def forward(
        self,
        preds: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
    ) -> Tensor:
        return self.loss_weight * self.loss(preds, targets, weight, avg_factor)


class FocalLoss(_Weighted):
    """Of class indices (N,), K = no class, or of targets of the predictions' shape (N, K).
    Predictions are logits, or ``activated``: probabilities."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.alpha, self.gamma, self.reduction = alpha, gamma, reduction
        self.loss_weight, self.activated = loss_weight, activated

    def loss(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None, avg_factor: float | None
    ) -> Tensor:
        logits = preds.logit() if self.activated else preds
        if targets.shape != preds.shape:
            targets = _one_hot(targets, preds)
        options = (weight, self.alpha, self.gamma, self.reduction, avg_factor)
        return sigmoid_focal_loss(logits, targets, *options)


class CrossEntropyLoss(nn.Module):
    """:func:`cross_entropy` times ``loss_weight``."""

    def __init__(
        self,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        ignore_index: int | None = None,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__()
        self.reduction, self.loss_weight = reduction, loss_weight
        self.ignore_index, self.avg_non_ignore = ignore_index, avg_non_ignore

    def forward(
        self,
        preds: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        class_weight: Tensor | None = None,
        ignore_index: int | None = None,
        **kwargs,
    ) -> Tensor:
        ignored = self.ignore_index if ignore_index is None else ignore_index
        options = (class_weight, self.reduction, avg_factor, ignored, self.avg_non_ignore)
        return self.loss_weight * cross_entropy(preds, targets, weight, *options)


class L1Loss(_Weighted):
    """:func:`l1_loss` times ``loss_weight``."""

    def __init__(self, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.loss_weight = reduction, loss_weight

    def loss(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None, avg_factor: float | None
    ) -> Tensor:
        return l1_loss(preds, targets, weight, self.reduction, avg_factor)


class GIoULoss(_Weighted):
    """:func:`giou_loss` times ``loss_weight``."""

    def __init__(
        self, eps: float = 1e-6, reduction: str = "mean", loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.eps, self.reduction, self.loss_weight = eps, reduction, loss_weight

    def loss(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None, avg_factor: float | None
    ) -> Tensor:
        options = (weight, self.eps, self.reduction, avg_factor)
        return giou_loss(preds, targets, *options)


class DiceLoss(_Weighted):
    """:func:`dice_loss` times ``loss_weight``, of logits if ``use_sigmoid``."""

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.use_sigmoid, self.reduction = use_sigmoid, reduction
        self.loss_weight, self.eps = loss_weight, eps

    def loss(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None, avg_factor: float | None
    ) -> Tensor:
        preds = preds.sigmoid() if self.use_sigmoid else preds
        options = (weight, self.eps, self.reduction, avg_factor)
        return dice_loss(preds, targets, *options)
