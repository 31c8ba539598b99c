"""The path of ``projects/align_detr`` in Align-DETR's own repository."""

from projects.align_detr.modeling import (
    AlignDETR,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)

__all__ = ["AlignDETR", "Transformer", "TransformerDecoder", "TransformerEncoder"]
