"""Small numeric helpers."""

from __future__ import annotations

from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """log(x / (1 - x)), both sides kept at least ``eps`` away from 0 (as Deformable DETR)."""
    return (x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0)).log()
