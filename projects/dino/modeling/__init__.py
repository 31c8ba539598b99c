from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.criterion import TwoStageCriterion as DINOCriterion
from detrex.modeling.transformer import DeformableEncoder as DINOTransformerEncoder

from .dino import DINO, DINOTransformer, DINOTransformerDecoder

__all__ = [
    "DINO",
    "DINOCriterion",
    "DINOTransformer",
    "DINOTransformerDecoder",
    "DINOTransformerEncoder",
    "TwoStageCriterion",
]
