from detrex.modeling.criterion import SetCriterion as DNCriterion
from projects.dab_detr.modeling import DabDetrTransformer as DNDetrTransformer
from projects.dab_detr.modeling import DabDetrTransformerDecoder as DNDetrTransformerDecoder
from projects.dab_detr.modeling import DabDetrTransformerEncoder as DNDetrTransformerEncoder

from .dn_detr import DNDETR

__all__ = [
    "DNCriterion",
    "DNDETR",
    "DNDetrTransformer",
    "DNDetrTransformerDecoder",
    "DNDetrTransformerEncoder",
]
