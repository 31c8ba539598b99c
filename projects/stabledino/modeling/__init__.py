from .criterion import StableDINOCriterion
from .stable_dino import (
    DINO,
    DINOTransformer,
    DINOTransformerDecoder,
    StableDINOHungarianMatcher,
    StableDINOTransformerEncoder,
)

__all__ = [
    "DINO",
    "DINOTransformer",
    "DINOTransformerDecoder",
    "StableDINOCriterion",
    "StableDINOHungarianMatcher",
    "StableDINOTransformerEncoder",
]
