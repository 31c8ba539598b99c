"""Helpers without knowledge of detection."""

from .dist import get_world_size, is_dist_avail_and_initialized
from .misc import inverse_sigmoid

__all__ = ["get_world_size", "inverse_sigmoid", "is_dist_avail_and_initialized"]
