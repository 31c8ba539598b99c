"""Position-modulated matching cost (Stable-DINO, Liu et al. 2023, section 3.3).

Legend: B images, L layers, N queries, G targets of an image, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from .high_order_matcher import HighOrderMatcher
from .matcher import HungarianMatcher, Targets, focal_cost, of_classes, pair_costs


class PositionMatcher(HungarianMatcher):
    """The class cost is that of the score p * u^cec_beta, with u = (GIoU + 1) / 2 of the pair,
    scaled so that the image's best pair has u = 1. A ``cec_beta`` of 0 or less switches it off.

    ``as_released``: as in the released code, all targets of a class have the u of the batch's last
    target of that class, and the scale looks at the targets of all images.

    Raises:
        ValueError: another class cost than the focal one.
    """

    def __init__(self, *args, cec_beta: float = 0.5, as_released: bool = False, **standard) -> None:
        super().__init__(*args, **standard)
        if self.cost_class_type != "focal_loss_cost":
            raise ValueError(
                f"matcher.cost_class_type is 'focal_loss_cost' here, got {self.cost_class_type!r}"
            )
        self.cec_beta = cec_beta
        self.as_released = as_released

    @torch.no_grad()
    def costs(
        self, logits: Tensor, boxes: Tensor, targets: Targets, class_agnostic: bool = False
    ) -> list[Tensor]:
        if self.cec_beta <= 0 or not self.as_released:
            return super().costs(logits, boxes, targets, class_agnostic)
        labels, gt = (torch.cat([t[key] for t in targets]) for key in ("labels", "boxes"))
        labels = torch.zeros_like(labels) if class_agnostic else labels
        number = torch.arange(len(labels), device=labels.device)
        last = ((labels == labels[:, None]) * number).amax(1) if len(labels) else number
        sizes = [len(t["labels"]) for t in targets]
        images = (x.float().unbind(1) for x in (logits, boxes))
        columns = (x.split(sizes) for x in (labels, gt, number))
        costs = []
        for x, b, image_labels, image_gt, column in zip(*images, *columns, strict=True):
            u = position_quality(b, gt)[..., last]
            costs.append(self.modulated(x, b, image_labels, image_gt, u[..., column], u))
        return costs

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        if self.cec_beta <= 0:
            return super().cost(logits, boxes, labels, gt)
        u = position_quality(boxes, gt)
        return self.modulated(logits, boxes, labels, gt, u, u)

    def modulated(
        self,
        logits: Tensor,
        boxes: Tensor,
        labels: Tensor,
        gt: Tensor,
        quality: Tensor,
        compared: Tensor,
    ) -> Tensor:
        """One image's cost (L, N, G); ``quality`` (L, N, G) is u before it is scaled by the highest
        of ``compared`` (L, N, any number)."""
        if not compared.shape[-1]:
            best = compared.new_zeros(len(compared))
        else:
            best = compared.flatten(1).amax(1)
        scale = (1 / (best + 1e-8)).clamp(min=1)[:, None, None]
        p = of_classes(logits, labels).sigmoid_() * (quality * scale) ** self.cec_beta
        cost = pair_costs(boxes, gt, self.cost_bbox, -self.cost_giou, 0.0)
        return cost.add_(focal_cost(p, self.alpha, self.gamma), alpha=self.cost_class)


class HighOrderPositionMatcher(HighOrderMatcher, PositionMatcher):
    """The position-modulated cost, until the high-order cost begins. Keys are those of both."""

    @torch.no_grad()
    def costs(
        self, logits: Tensor, boxes: Tensor, targets: Targets, class_agnostic: bool = False
    ) -> list[Tensor]:
        costs = HungarianMatcher.costs if self.is_high_order else PositionMatcher.costs
        return costs(self, logits, boxes, targets, class_agnostic)


def position_quality(boxes: Tensor, gt: Tensor) -> Tensor:
    """(GIoU + 1) / 2 in [0, 1], (L, N, G), of boxes (L, N, 4) with gt (G, 4)."""
    return (pair_costs(boxes, gt, l1=0.0, giou=1.0, iou=0.0) + 1) / 2
