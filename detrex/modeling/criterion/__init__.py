from .criterion import ENCODER, Predictions, SetCriterion
from .many_to_one import ManyToOneCriterion
from .two_stage import TwoStageCriterion

__all__ = [
    "ENCODER",
    "ManyToOneCriterion",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
]
