from detrex.modeling.criterion import ManyToOneCriterion
from detrex.modeling.criterion import ManyToOneCriterion as AlignDETRCriterion
from detrex.modeling.matcher import HungarianMatcher as MixedMatcher
from detrex.modeling.transformer import DeformableEncoder as TransformerEncoder
from projects.dino.modeling import DINOTransformer as Transformer
from projects.dino.modeling import DINOTransformerDecoder as TransformerDecoder

from .align_detr import AlignDETR

__all__ = [
    "AlignDETR",
    "AlignDETRCriterion",
    "ManyToOneCriterion",
    "MixedMatcher",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
]
