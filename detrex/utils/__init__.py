"""Helpers without knowledge of detection."""

from .lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {"dist": "get_world_size is_dist_avail_and_initialized", "misc": "inverse_sigmoid"},
)
