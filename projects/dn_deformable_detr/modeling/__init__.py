from detrex.modeling.criterion import SetCriterion as DNCriterion
from detrex.modeling.transformer import DeformableEncoder as DNDeformableDetrTransformerEncoder
from detrex.modeling.transformer import MultiScaleTransformer as DNDeformableDetrTransformer
from projects.dab_deformable_detr.modeling import (
    DabDeformableDetrTransformerDecoder as DNDeformableDetrTransformerDecoder,
)

from .dn_deformable_detr import DNDeformableDETR

__all__ = [
    "DNCriterion",
    "DNDeformableDETR",
    "DNDeformableDetrTransformer",
    "DNDeformableDetrTransformerDecoder",
    "DNDeformableDetrTransformerEncoder",
]
