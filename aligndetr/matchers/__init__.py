"""``aligndetr.matchers`` of Align-DETR's repository."""

from detrex.modeling.matcher import HungarianMatcher as MixedMatcher
from detrex.utils.api import unknown_name

__all__ = ["MixedMatcher"]

__getattr__ = unknown_name(__name__)
