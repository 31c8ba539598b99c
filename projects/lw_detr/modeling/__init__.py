from .lw_detr import LWDETR, LWDETRTransformer, LWDETRTransformerDecoder
from .projector import Projector

__all__ = ["LWDETR", "LWDETRTransformer", "LWDETRTransformerDecoder", "Projector"]
