from detrex.modeling.matcher import HighOrderMatcher
from detrex.modeling.transformer import DeformableEncoder as RankDetrTransformerEncoder

from .rank_detr import RankDETR, RankDetrTransformer, RankDetrTransformerDecoder
from .rank_dino import RankDINO, RankDinoTransformerDecoder
from .rankdetr_criterion import RankDetrCriterion

__all__ = [
    "HighOrderMatcher",
    "RankDETR",
    "RankDINO",
    "RankDetrCriterion",
    "RankDetrTransformer",
    "RankDetrTransformerDecoder",
    "RankDetrTransformerEncoder",
    "RankDinoTransformerDecoder",
]
