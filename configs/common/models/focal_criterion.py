"""Focal loss, L1 and GIoU with the matching costs of the same kind: ``criterion``."""

from detectron2.config import LazyCall as L

from detrex.modeling.criterion import SetCriterion
from detrex.modeling.matcher import HungarianMatcher

criterion = L(SetCriterion)(
    num_classes="${..num_classes}",
    matcher=L(HungarianMatcher)(
        cost_class=2.0,
        cost_bbox=5.0,
        cost_giou=2.0,
        cost_class_type="focal_loss_cost",
        alpha=0.25,
        gamma=2.0,
    ),
    weight_dict={"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0},
    loss_class_type="focal_loss",
    alpha=0.25,
    gamma=2.0,
)
