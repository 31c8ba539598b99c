"""High-order matching cost (Rank-DETR, Pu et al. 2023, section 3.3).

Legend: L layers, N queries, G targets of an image, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from torch import Tensor

from .matcher import HungarianMatcher, of_classes, pair_costs


class HighOrderMatcher(HungarianMatcher):
    """Late in training the whole cost becomes -(score * IoU^iou_order_alpha).

    The training loop sets ``iter``, the current iteration, before each step; as long as it is -1
    (inference, or a loop that does not set it) the cost is the standard one.

    Args:
        iou_order_alpha: power of the IoU in the high-order cost.
        matcher_change_iter: first iteration with the high-order cost: an int, a fraction of
            ``max_iter`` in (0, 1), or None for never. The trainer of detrex also takes epochs
            ("9ep") and turns every form into an int before it builds the model.
        max_iter: iterations of the run, which a fraction needs.
        position: keys of :class:`PositionMatcher`, where it is a base, too.

    Raises:
        ValueError: from ``cost`` once ``iter`` is set, if ``matcher_change_iter`` is in epochs, or
            a fraction of an unknown number of iterations.
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
        matcher_change_iter: int | float | str | None = 67500,
        max_iter: int | str | None = None,
        **position,
    ) -> None:
        standard = cost_class, cost_bbox, cost_giou, cost_class_type, alpha, gamma
        super().__init__(*standard, **position)
        self.iou_order_alpha = iou_order_alpha
        if _is_fraction(matcher_change_iter) and isinstance(max_iter, int):
            matcher_change_iter = max(1, round(matcher_change_iter * max_iter))
        self.matcher_change_iter = matcher_change_iter
        self.iter = -1

    @property
    def is_high_order(self) -> bool:
        """Whether the present iteration uses the high-order cost."""
        change = self.matcher_change_iter
        if change is None or self.iter < 0:
            return False
        if isinstance(change, str) or _is_fraction(change):
            raise ValueError(
                f"matcher_change_iter={change}: give iterations, or max_iter with a fraction"
            )
        return self.iter >= change

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        if not self.is_high_order:
            return super().cost(logits, boxes, labels, gt)
        iou = pair_costs(boxes, gt, l1=0.0, giou=0.0, iou=1.0)
        return iou.pow_(self.iou_order_alpha).mul_(of_classes(logits, labels).sigmoid_()).neg_()


def _is_fraction(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1
