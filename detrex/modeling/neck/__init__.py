from detrex.utils.api import unknown_name

from .channel_mapper import ChannelMapper

__all__ = ["ChannelMapper"]

__getattr__ = unknown_name(__name__)
