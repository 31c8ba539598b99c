"""``aligndetr.matchers`` of Align-DETR's repository."""

from detrex.modeling.matcher import HungarianMatcher as MixedMatcher

__all__ = ["MixedMatcher"]
