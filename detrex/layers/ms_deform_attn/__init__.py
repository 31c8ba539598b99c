from .discrete import discrete_attention
from .function import (
    as_shapes,
    attention_path,
    deformable_attention,
    multi_scale_deformable_attention,
)
from .module import MultiScaleDeformableAttention

__all__ = [
    "MultiScaleDeformableAttention",
    "as_shapes",
    "attention_path",
    "deformable_attention",
    "discrete_attention",
    "multi_scale_deformable_attention",
]
