"""Upstream's matching costs as modules, (N, G) of N queries and G targets.

Our matcher takes its costs from :mod:`detrex.modeling.matcher`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detrex.layers import generalized_box_iou


class FocalLossCost(nn.Module):
    """Focal loss as a positive minus focal loss as a negative: logits (N, K), labels (G,)."""

    def __init__(
        self, alpha: float = 0.25, gamma: float = 2.0, weight: float = 1.0, eps: float = 1e-8
    ) -> None:
        super().__init__()
        self.alpha, self.gamma, self.weight, self.eps = alpha, gamma, weight, eps

    def forward(self, pred_logits: Tensor, gt_labels: Tensor) -> Tensor:
        p = pred_logits[:, gt_labels].sigmoid()
        positive = -self.alpha * (1 - p) ** self.gamma * (p + self.eps).log()
        negative = -(1 - self.alpha) * p**self.gamma * (1 - p + self.eps).log()
        return (positive - negative) * self.weight


class CrossEntropyCost(nn.Module):
    """Minus the softmax probability of the target's class: logits (N, K), labels (G,)."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pred_logits: Tensor, gt_labels: Tensor) -> Tensor:
        return -pred_logits.softmax(-1)[:, gt_labels] * self.weight


class GIoUCost(nn.Module):
    """Minus GIoU of boxes (N, 4) and (G, 4) as x0, y0, x1, y1."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pred_bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        return -generalized_box_iou(pred_bboxes, gt_bboxes) * self.weight


class L1Cost(nn.Module):
    """L1 distance of boxes (N, 4) and (G, 4), cxcywh in [0, 1]."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pred_bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        return torch.cdist(pred_bboxes, gt_bboxes, p=1) * self.weight
