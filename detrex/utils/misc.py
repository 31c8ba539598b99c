"""Small numeric helpers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Return log(x / (1 - x)), with x and 1 - x at least ``eps`` (as Deformable DETR)."""
    return (x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0)).log()


def ratio(top: np.ndarray | float, bottom: np.ndarray | float) -> np.ndarray:
    """``top / bottom``, NaN where nothing was counted."""
    bottom = np.asarray(bottom, float)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)


def finite(value: object) -> object:
    """Return a nested value with None for NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: object) -> object:
    """Return a nested value with NaN for None: what :func:`finite` wrote."""
    if isinstance(value, dict):
        return {key: with_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [with_nan(v) for v in value]
    return math.nan if value is None else value
