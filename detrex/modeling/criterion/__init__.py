from .criterion import SetCriterion
from .many_to_one import ManyToOneCriterion
from .sets import ENCODER, Predictions
from .two_stage import TwoStageCriterion

__all__ = [
    "ENCODER",
    "ManyToOneCriterion",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
]
