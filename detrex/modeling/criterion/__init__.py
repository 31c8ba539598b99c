from .criterion import SetCriterion
from .many_to_one import ManyToOneCriterion
from .sets import Predictions
from .two_stage import TwoStageCriterion

__all__ = [
    "ManyToOneCriterion",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
]
