"""The focal loss as upstream's ``detrex.modeling.criterion.criterion`` has it."""

from __future__ import annotations

from torch import Tensor
from torchvision import ops


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, num_boxes: float, alpha: float = 0.25, gamma: float = 2
) -> Tensor:
    """Focal loss (Lin et al. 2017) of logits (B, N, K) and targets in [0, 1] alike: the sum of the
    means over N, divided by ``num_boxes``; multiplied by N it is the sum over all."""
    return ops.sigmoid_focal_loss(inputs, targets, alpha, gamma).mean(1).sum() / num_boxes
