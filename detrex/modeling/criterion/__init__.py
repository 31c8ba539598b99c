from .criterion import ENCODER, Predictions, SetCriterion, class_loss_sum
from .many_to_one import ManyToOneCriterion
from .two_stage import TwoStageCriterion

__all__ = [
    "ENCODER",
    "ManyToOneCriterion",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
    "class_loss_sum",
]
