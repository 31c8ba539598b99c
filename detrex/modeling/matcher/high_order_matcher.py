"""High-order matching cost (Rank-DETR, Pu et al. 2023, section 3.3).

Legend: L layers, N queries, G targets of an image, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor

from .matcher import HungarianMatcher, of_classes, pair_costs


class HighOrderMatcher(HungarianMatcher):
    """Late in training the whole cost becomes -(score * IoU^iou_order_alpha).

    ``iter`` is the current iteration, set by the trainer; up to ``matcher_change_iter`` (None:
    always) the standard cost is used. Outside training ``iter`` is -1.
    """

    def __init__(
        self,
        cost_class: float = 1,
        cost_bbox: float = 1,
        cost_giou: float = 1,
        cost_class_type: str = "focal_loss_cost",
        alpha: float = 0.25,
        gamma: float = 2.0,
        iou_order_alpha: float = 4.0,
        matcher_change_iter: int | None = 67500,
    ) -> None:
        super().__init__(cost_class, cost_bbox, cost_giou, cost_class_type, alpha, gamma)
        self.iou_order_alpha = iou_order_alpha
        self.matcher_change_iter = matcher_change_iter
        self.iter = -1

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        if self.matcher_change_iter is None or self.iter < self.matcher_change_iter:
            return super().cost(logits, boxes, labels, gt)
        iou = pair_costs(boxes, gt, l1=0.0, giou=0.0, iou=1.0)
        return iou.pow_(self.iou_order_alpha).mul_(of_classes(logits, labels).sigmoid_()).neg_()
