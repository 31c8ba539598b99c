from .ms_detr import MSDETR, MixedDecoder

__all__ = ["MSDETR", "MixedDecoder"]
