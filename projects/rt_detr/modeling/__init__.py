from .rt_detr import RTDETR, RTDETRCriterion, RTDETRTransformer, RTDETRTransformerDecoder

__all__ = ["RTDETR", "RTDETRCriterion", "RTDETRTransformer", "RTDETRTransformerDecoder"]
