from .assignment import Assignment, Matches, Problems, assign
from .high_order_matcher import HighOrderMatcher
from .matcher import HungarianMatcher

__all__ = [
    "Assignment",
    "HighOrderMatcher",
    "HungarianMatcher",
    "Matches",
    "Problems",
    "assign",
]
