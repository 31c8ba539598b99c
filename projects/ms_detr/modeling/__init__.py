from .criterion import MixedCriterion, candidates_by_quality
from .ms_detr import MSDETR, MixedDecoder

__all__ = ["MSDETR", "MixedCriterion", "MixedDecoder", "candidates_by_quality"]
