"""Small numeric helpers."""

from __future__ import annotations

import math

from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """log(x / (1 - x)), both sides kept at least ``eps`` away from 0 (as Deformable DETR)."""
    return (x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0)).log()


def finite(value: object) -> object:
    """The same nested value with None for what JSON has no number for (NaN, infinities)."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
