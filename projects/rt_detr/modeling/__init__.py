from .hybrid_encoder import HybridEncoder
from .resnet_vd import DeepStem, make_vd_stages
from .rt_detr import RTDETR, RTDETRCriterion, RTDETRTransformer, RTDETRTransformerDecoder

__all__ = [
    "RTDETR",
    "DeepStem",
    "HybridEncoder",
    "RTDETRCriterion",
    "RTDETRTransformer",
    "RTDETRTransformerDecoder",
    "make_vd_stages",
]
