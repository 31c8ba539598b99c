"""Upstream's ``detrex.layers.multi_scale_deform_attn``, over our deformable attention."""

from __future__ import annotations

from detectron2.utils.develop import create_dummy_class, create_dummy_func
from torch import Tensor

from detrex.layers.ms_deform_attn import (
    MultiScaleDeformableAttention,
    as_shapes,
    multi_scale_deformable_attention,
)

__all__ = [
    "MultiScaleDeformableAttention",
    "MultiScaleDeformableAttnFunction",
    "create_dummy_class",
    "create_dummy_func",
    "multi_scale_deformable_attn_pytorch",
]


def multi_scale_deformable_attn_pytorch(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """value (B, S, H, D), shapes (L, 2), locations (B, N, H, L, P, 2) in [0, 1], weights
    (B, N, H, L, P) to (B, N, H * D)."""
    shapes = as_shapes(value_spatial_shapes)
    return multi_scale_deformable_attention(value, shapes, sampling_locations, attention_weights)


class MultiScaleDeformableAttnFunction:
    """Called like upstream's autograd function; PyTorch differentiates our operator itself."""

    @staticmethod
    def apply(
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """As :func:`multi_scale_deformable_attn_pytorch`; the start of the levels follows from
        their shapes, and ``im2col_step`` has no effect."""
        return multi_scale_deformable_attn_pytorch(
            value, value_spatial_shapes, sampling_locations, attention_weights
        )


def _is_power_of_2(n: int) -> bool:
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"a whole number of at least 0 is needed, got {n!r}")
    return n.bit_count() == 1
