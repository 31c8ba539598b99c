from .ddq_detr import DDQDETR, DistinctCriterion, DistinctDecoder

__all__ = ["DDQDETR", "DistinctCriterion", "DistinctDecoder"]
