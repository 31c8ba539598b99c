"""Helpers without knowledge of detection."""

from .dist import get_world_size, is_dist_avail_and_initialized
from .misc import inverse_sigmoid

__all__ = ["get_world_size", "inverse_sigmoid", "is_dist_avail_and_initialized"]


def __getattr__(name: str) -> object:
    if name == "WandbWriter":  # on demand: the other helpers do without detectron2
        from .events import WandbWriter

        return WandbWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
