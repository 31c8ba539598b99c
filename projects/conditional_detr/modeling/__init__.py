from detrex.modeling.transformer import ConditionalDecoder as ConditionalDetrTransformerDecoder
from detrex.modeling.transformer import ConditionalEncoder as ConditionalDetrTransformerEncoder
from detrex.modeling.transformer import DenseTransformer as ConditionalDetrTransformer

from .conditional_detr import ConditionalDETR

__all__ = [
    "ConditionalDETR",
    "ConditionalDetrTransformer",
    "ConditionalDetrTransformerDecoder",
    "ConditionalDetrTransformerEncoder",
]
