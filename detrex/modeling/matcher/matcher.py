"""Bipartite matching of queries and targets (DETR, Carion et al. 2020, section 3.1).

Legend: B images, L layers, N queries, G targets of an image, K classes; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detrex.layers import box_cxcywh_to_xyxy, overlaps
from detrex.utils.errors import AssertedError

from .assignment import Matches, assign

Targets = Sequence[dict[str, Tensor]]  # per image: labels (G,), boxes (G, 4)


class HungarianMatcher(nn.Module):
    """Cost = cost_class * focal + cost_bbox * L1 - cost_giou * GIoU.

    The focal cost (Deformable DETR) is how much the focal loss would grow if the query were
    negative instead of positive. A method with another cost overrides :meth:`cost`.

    Raises:
        AssertedError: if all costs are zero or the class cost is unknown.
    """

    def __init__(
        self,
        cost_class: float = 1,
        cost_bbox: float = 1,
        cost_giou: float = 1,
        cost_class_type: str = "focal_loss_cost",
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if not (cost_class or cost_bbox or cost_giou):
            raise AssertedError(
                "matcher: at least one of cost_class, cost_bbox, cost_giou must be set"
            )
        if cost_class_type not in CLASS_COSTS:
            raise AssertedError(
                f"matcher: cost_class_type is one of {sorted(CLASS_COSTS)}, got {cost_class_type!r}"
            )
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_giou = cost_giou
        self.cost_class_type = cost_class_type
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def costs(
        self, logits: Tensor, boxes: Tensor, targets: Targets, class_agnostic: bool = False
    ) -> list[Tensor]:
        """Cost (L, N, G) of each image: logits (L, B, N, K), boxes (L, B, N, 4).

        ``class_agnostic``: every target counts as class 0.
        """
        pairs = zip(logits.float().unbind(1), boxes.float().unbind(1), targets, strict=True)
        zero = torch.zeros(1, dtype=torch.int64, device=logits.device)
        return [
            self.cost(x, b, zero if class_agnostic else t["labels"], t["boxes"])
            for x, b, t in pairs
        ]

    def match(
        self,
        logits: Tensor,
        boxes: Tensor,
        targets: Targets,
        k: Sequence[int] | None = None,
    ) -> Matches:
        """Match all layers at once: logits (L, B, N, K), boxes (L, B, N, 4).

        Only queries and targets of the same image are ever compared. ``k`` (L,): queries per target
        in each layer (see :func:`assign`), None: one.
        """
        return assign(self.costs(logits, boxes, targets), per_layer=k)

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, gt: Tensor) -> Tensor:
        """One image's cost (L, N, G): logits (L, N, K), boxes (L, N, 4), gt (G, 4), labels (G,),
        or (1,) if all targets count as the same class."""
        class_cost = CLASS_COSTS[self.cost_class_type](logits, labels, self.alpha, self.gamma)
        cost = pair_costs(boxes, gt, self.cost_bbox, -self.cost_giou, 0.0)
        return cost.add_(class_cost, alpha=self.cost_class)

    def forward(  # frozen: upstream's signature
        self, outputs: dict[str, Tensor], targets: Targets, gt_copy: int = 1
    ) -> list[tuple[Tensor, Tensor]]:
        """One layer in upstream's format: per image (query indices, target indices of the image).

        outputs: "pred_logits" (B, N, K), "pred_boxes" (B, N, 4); ``gt_copy`` queries per target.
        """
        logits, boxes = outputs["pred_logits"][None], outputs["pred_boxes"][None]
        matches = self.match(logits, boxes, targets, k=None if gt_copy == 1 else [gt_copy])
        return matches.by_image(0, [len(target["labels"]) for target in targets])


def of_classes(x: Tensor, labels: Tensor) -> Tensor:
    """The targets' columns (L, N, G) of x (L, N, K), a copy with N fastest in memory."""
    return x.index_select(2, labels).mT.contiguous().mT


def focal_loss_cost(logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss as a positive minus focal loss as a negative, (L, N, G)."""
    return focal_cost(of_classes(logits, labels).sigmoid_(), alpha, gamma)


def focal_cost(p: Tensor, alpha: float, gamma: float) -> Tensor:
    """:func:`focal_loss_cost` of the scores p (L, N, G) of the targets' classes."""
    rest = 1 - p
    positive = (p + 1e-8).log_().mul_(rest**gamma).mul_(-alpha)
    return positive.add_((rest + 1e-8).log_().mul_(p**gamma), alpha=1 - alpha)


def ce_cost(logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """Minus the softmax probability of the target's class (DETR), (L, N, G)."""
    return -of_classes(logits.softmax(-1), labels)


def pair_costs(boxes: Tensor, gt: Tensor, l1: float, giou: float, iou: float) -> Tensor:
    """l1 * L1 + giou * GIoU + iou * IoU (L, N, G) of boxes (L, N, 4) and gt (G, 4).

    N is the fastest dimension in memory: an assignment is solved target by target.
    """
    pairs = overlaps(box_cxcywh_to_xyxy(gt)[:, None], box_cxcywh_to_xyxy(boxes)[:, None])
    cost = giou * pairs[1] + iou * pairs[0]
    if l1:
        cost = cost + l1 * torch.cdist(gt.to(boxes).expand(len(boxes), -1, -1), boxes, p=1)
    return cost.mT


CLASS_COSTS = {"focal_loss_cost": focal_loss_cost, "ce_cost": ce_cost}
