from .classification import (
    CLASS_LOSSES,
    ClassLoss,
    Quality,
    focal,
    giou_focal,
    ia_bce,
    joint_quality,
    weighted_bce,
)

__all__ = [
    "CLASS_LOSSES",
    "ClassLoss",
    "Quality",
    "focal",
    "giou_focal",
    "ia_bce",
    "joint_quality",
    "weighted_bce",
]
