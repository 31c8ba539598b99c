from .classification import (
    BASIC_LOSSES,
    ClassLoss,
    Quality,
    ia_bce,
    joint_quality,
)
from .quality_aware import QUALITY_AWARE_LOSSES

CLASS_LOSSES = BASIC_LOSSES | QUALITY_AWARE_LOSSES


def build_class_loss(name: str, alpha: float, gamma: float) -> ClassLoss:
    """The class loss of that name in ``CLASS_LOSSES``."""
    return ClassLoss(*CLASS_LOSSES[name], alpha, gamma)


__all__ = [
    "CLASS_LOSSES",
    "ClassLoss",
    "Quality",
    "build_class_loss",
    "ia_bce",
    "joint_quality",
]
