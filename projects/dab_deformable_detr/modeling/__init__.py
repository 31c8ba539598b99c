from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.transformer import DeformableEncoder as DabDeformableDetrTransformerEncoder
from detrex.modeling.transformer import MultiScaleTransformer as DabDeformableDetrTransformer

from .dab_deformable_detr import DabDeformableDETR, DabDeformableDetrTransformerDecoder

__all__ = [
    "DabDeformableDETR",
    "DabDeformableDetrTransformer",
    "DabDeformableDetrTransformerDecoder",
    "DabDeformableDetrTransformerEncoder",
    "TwoStageCriterion",
]
