from .assignment import Matches, assign
from .high_order_matcher import HighOrderMatcher
from .matcher import HungarianMatcher

__all__ = ["HighOrderMatcher", "HungarianMatcher", "Matches", "assign"]
