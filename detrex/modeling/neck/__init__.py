from .channel_mapper import ChannelMapper
from .hybrid_encoder import HybridEncoder

__all__ = ["ChannelMapper", "HybridEncoder"]
