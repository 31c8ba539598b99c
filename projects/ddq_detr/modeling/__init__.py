from .ddq_detr import DDQDETR, DDQCriterion, DistinctDecoder
from .ddq_rank_detr import DDQRankCriterion, DDQRankDETR, DDQRankDetrTransformerDecoder
from .dense_branch import DenseMatcher

__all__ = [
    "DDQDETR",
    "DDQCriterion",
    "DDQRankCriterion",
    "DDQRankDETR",
    "DDQRankDetrTransformerDecoder",
    "DenseMatcher",
    "DistinctDecoder",
]
