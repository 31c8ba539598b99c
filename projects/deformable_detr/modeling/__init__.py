from detrex.modeling.criterion import SetCriterion as DeformableCriterion
from detrex.modeling.transformer import DeformableDecoder as DeformableDetrTransformerDecoder
from detrex.modeling.transformer import DeformableEncoder as DeformableDetrTransformerEncoder
from detrex.modeling.transformer import DeformableTransformer as DeformableDetrTransformer

from .deformable_detr import DeformableDETR
from .routes import RoutedDETR

__all__ = [
    "DeformableCriterion",
    "DeformableDETR",
    "DeformableDetrTransformer",
    "DeformableDetrTransformerDecoder",
    "DeformableDetrTransformerEncoder",
    "RoutedDETR",
]
