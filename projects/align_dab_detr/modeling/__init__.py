from aligndetr.criterions import ManyToOneCriterion
from aligndetr.matchers import MixedMatcher
from projects.dab_detr.modeling import DABDETR as AlignDABDETR
from projects.dab_detr.modeling import (
    DabDetrTransformer,
    DabDetrTransformerDecoder,
    DabDetrTransformerEncoder,
)

__all__ = [
    "AlignDABDETR",
    "DabDetrTransformer",
    "DabDetrTransformerDecoder",
    "DabDetrTransformerEncoder",
    "ManyToOneCriterion",
    "MixedMatcher",
]
