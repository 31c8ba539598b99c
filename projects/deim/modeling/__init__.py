from .deim import DEIM, DEIMTransformerDecoder

__all__ = ["DEIM", "DEIMTransformerDecoder"]
