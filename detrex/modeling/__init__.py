"""Parts of detection transformers, shared by all methods."""

from .criterion import SetCriterion
from .matcher import HungarianMatcher
from .neck import ChannelMapper

__all__ = ["ChannelMapper", "HungarianMatcher", "SetCriterion"]
