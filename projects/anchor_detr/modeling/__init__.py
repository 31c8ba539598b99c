from .anchor_detr import AnchorDETR
from .transformer import AnchorDETRTransformer

__all__ = ["AnchorDETR", "AnchorDETRTransformer"]
