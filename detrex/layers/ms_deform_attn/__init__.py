from .function import as_shapes, multi_scale_deformable_attention
from .module import MultiScaleDeformableAttention

__all__ = ["MultiScaleDeformableAttention", "as_shapes", "multi_scale_deformable_attention"]
