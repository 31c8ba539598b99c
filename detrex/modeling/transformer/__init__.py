from .conditional import ConditionalDecoder, ConditionalEncoder
from .decoder import Decoder
from .deformable import (
    AnchorBoxDecoder,
    DeformableDecoder,
    DeformableEncoder,
    DeformableTransformer,
    MultiScaleTransformer,
)
from .dense import DenseDecoder, DenseEncoder, DenseMemory, DenseTransformer
from .memory import Memory, Proposals, ProposesBoxes, as_tokens

__all__ = [
    "AnchorBoxDecoder",
    "ConditionalDecoder",
    "ConditionalEncoder",
    "Decoder",
    "DeformableDecoder",
    "DeformableEncoder",
    "DeformableTransformer",
    "DenseDecoder",
    "DenseEncoder",
    "DenseMemory",
    "DenseTransformer",
    "Memory",
    "MultiScaleTransformer",
    "Proposals",
    "ProposesBoxes",
    "as_tokens",
]
