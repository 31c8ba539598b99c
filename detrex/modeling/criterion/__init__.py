from detrex.modeling.predictions import Predictions

from .criterion import SetCriterion, TwoStageCriterion
from .many_to_one import ManyToOneCriterion

__all__ = [
    "ManyToOneCriterion",
    "Predictions",
    "SetCriterion",
    "TwoStageCriterion",
]
