"""Parts of detection transformers, shared by all methods."""

from detrex.utils.api import unknown_name

from .criterion import SetCriterion
from .matcher import HungarianMatcher
from .neck import ChannelMapper

__all__ = ["ChannelMapper", "HungarianMatcher", "SetCriterion"]

__getattr__ = unknown_name(__name__)
