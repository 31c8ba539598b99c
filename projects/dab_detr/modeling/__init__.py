from .dab_detr import (
    DABDETR,
    DabDetrTransformer,
    DabDetrTransformerDecoder,
    DabDetrTransformerEncoder,
)

__all__ = [
    "DABDETR",
    "DabDetrTransformer",
    "DabDetrTransformerDecoder",
    "DabDetrTransformerEncoder",
]
