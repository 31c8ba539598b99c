from detrex.utils.api import unknown_name

from .channel_mapper import ChannelMapper
from .hybrid_encoder import HybridEncoder

__all__ = ["ChannelMapper", "HybridEncoder"]

__getattr__ = unknown_name(__name__)
