from .criterion import ENCODER, Predictions, SetCriterion, class_loss_sum
from .two_stage import TwoStageCriterion

__all__ = [
    "ENCODER",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
    "class_loss_sum",
]
