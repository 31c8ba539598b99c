from .classification import (
    BASIC_LOSSES,
    ClassLoss,
    Quality,
    focal,
    giou_focal,
    ia_bce,
    joint_quality,
    weighted_bce,
)
from .quality_aware import QUALITY_AWARE_LOSSES

CLASS_LOSSES = BASIC_LOSSES | QUALITY_AWARE_LOSSES

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
