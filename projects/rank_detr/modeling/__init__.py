from detrex.modeling.matcher import HighOrderMatcher
from detrex.modeling.transformer import DeformableEncoder as RankDetrTransformerEncoder

from .rank_detr import RankDETR, RankDetrTransformer, RankDetrTransformerDecoder
from .rankdetr_criterion import RankDetrCriterion

__all__ = [
    "HighOrderMatcher",
    "RankDETR",
    "RankDetrCriterion",
    "RankDetrTransformer",
    "RankDetrTransformerDecoder",
    "RankDetrTransformerEncoder",
]
