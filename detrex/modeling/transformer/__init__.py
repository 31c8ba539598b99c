from .decoder import Decoder
from .deformable import (
    DeformableDecoder,
    DeformableEncoder,
    DeformableTransformer,
    Memory,
    Proposals,
)

__all__ = [
    "Decoder",
    "DeformableDecoder",
    "DeformableEncoder",
    "DeformableTransformer",
    "Memory",
    "Proposals",
]
