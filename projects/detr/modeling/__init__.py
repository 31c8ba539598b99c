from detrex.modeling.transformer import DenseDecoder as DetrTransformerDecoder
from detrex.modeling.transformer import DenseTransformer as DetrTransformer

from .detr import DETR, DetrTransformerEncoder

__all__ = ["DETR", "DetrTransformer", "DetrTransformerDecoder", "DetrTransformerEncoder"]
