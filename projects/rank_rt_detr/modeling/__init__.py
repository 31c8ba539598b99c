from .rank_rt_detr import RankRTDETR, RankRTDETRCriterion, RankRTDETRTransformerDecoder

__all__ = ["RankRTDETR", "RankRTDETRCriterion", "RankRTDETRTransformerDecoder"]
