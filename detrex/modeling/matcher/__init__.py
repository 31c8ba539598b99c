from .assignment import Assignment, Matches, Problems, assign
from .high_order_matcher import HighOrderMatcher
from .matcher import HungarianMatcher
from .one_to_many import OneToManyMatcher
from .position_matcher import HighOrderPositionMatcher, PositionMatcher

__all__ = [
    "Assignment",
    "HighOrderMatcher",
    "HighOrderPositionMatcher",
    "HungarianMatcher",
    "Matches",
    "OneToManyMatcher",
    "PositionMatcher",
    "Problems",
    "assign",
]
