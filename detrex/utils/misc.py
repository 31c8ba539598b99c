"""Small numeric helpers."""

from __future__ import annotations

import math

from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Return log(x / (1 - x)), with x and 1 - x at least ``eps`` (as Deformable DETR)."""
    return (x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0)).log()


def finite(value: object) -> object:
    """Return a nested value with None for NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
