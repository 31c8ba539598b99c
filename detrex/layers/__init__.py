"""Building blocks without knowledge of detection methods."""

from .attention import MultiheadAttention
from .box_ops import (
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    overlaps,
)
from .conditional_attention import ConditionalCrossAttention, ConditionalSelfAttention
from .denoising import GenerateDNQueries
from .mlp import FFN, MLP
from .ms_deform_attn import MultiScaleDeformableAttention, multi_scale_deformable_attention
from .position_embedding import PositionEmbeddingSine, get_sine_pos_embed
from .transformer import DecoderLayer, EncoderLayer, TransformerLayerSequence

__all__ = [
    "FFN",
    "GenerateDNQueries",
    "MLP",
    "ConditionalCrossAttention",
    "ConditionalSelfAttention",
    "DecoderLayer",
    "EncoderLayer",
    "MultiScaleDeformableAttention",
    "MultiheadAttention",
    "PositionEmbeddingSine",
    "TransformerLayerSequence",
    "box_area",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "generalized_box_iou",
    "get_sine_pos_embed",
    "multi_scale_deformable_attention",
    "overlaps",
]
