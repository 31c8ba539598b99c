from detrex.modeling.criterion import SetCriterion as DeformableCriterion
from detrex.modeling.transformer import DeformableEncoder as HDeformableDetrTransformerEncoder
from detrex.modeling.transformer import DeformableTransformer as HDeformableDetrTransformer

from .h_deformable_detr import HDeformableDETR, HDeformableDetrTransformerDecoder

__all__ = [
    "DeformableCriterion",
    "HDeformableDETR",
    "HDeformableDetrTransformer",
    "HDeformableDetrTransformerDecoder",
    "HDeformableDetrTransformerEncoder",
]
