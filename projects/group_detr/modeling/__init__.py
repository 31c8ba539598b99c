from detrex.modeling.matcher import HungarianMatcher as GroupHungarianMatcher
from detrex.modeling.transformer import ConditionalEncoder as GroupDetrTransformerEncoder
from detrex.modeling.transformer import DenseTransformer as GroupDetrTransformer

from .group_detr import (
    GroupConditionalSelfAttention,
    GroupDETR,
    GroupDetrTransformerDecoder,
    GroupSetCriterion,
)

__all__ = [
    "GroupConditionalSelfAttention",
    "GroupDETR",
    "GroupDetrTransformer",
    "GroupDetrTransformerDecoder",
    "GroupDetrTransformerEncoder",
    "GroupHungarianMatcher",
    "GroupSetCriterion",
]
