from .discrete import discrete_attention
from .function import (
    attention_path,
    deformable_attention,
    multi_scale_deformable_attention,
)
from .module import MultiScaleDeformableAttention
from .plain import as_shapes

__all__ = [
    "MultiScaleDeformableAttention",
    "as_shapes",
    "attention_path",
    "deformable_attention",
    "discrete_attention",
    "multi_scale_deformable_attention",
]
