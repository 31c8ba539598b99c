from .channel_mapper import ChannelMapper, with_channel_mapper

__all__ = ["ChannelMapper", "with_channel_mapper"]
