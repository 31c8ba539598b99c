"""Criteria of methods that choose proposals by their best class, and k-to-one matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from detrex.modeling.matcher.matcher import Targets

from .criterion import SetCriterion
from .sets import ENCODER, Predictions


class TwoStageCriterion(SetCriterion):
    """Set criterion whose proposals answer for real labels (DINO).

    ``two_stage_binary_cls``: they answer for class 0 instead, as in Deformable DETR.
    """

    def __init__(self, *args, two_stage_binary_cls: bool = False, **rest) -> None:
        super().__init__(*args, **rest)
        self.two_stage_binary_cls = two_stage_binary_cls

    def supervise(self, sets: Sequence[Predictions], targets: Targets) -> dict[str, Tensor]:
        if self.two_stage_binary_cls:
            sets = [replace(s, class_agnostic=s.class_agnostic or s.group is ENCODER) for s in sets]
        return super().supervise(sets, targets)
