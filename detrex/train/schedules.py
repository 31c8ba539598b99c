"""Schedules of the learning rate that fvcore does not have."""

from __future__ import annotations

import math
from typing import ClassVar

from fvcore.common.param_scheduler import ParamScheduler

from detrex.utils.errors import InputError


class FlatCosine(ParamScheduler):
    """Quadratic warm-up, a flat piece, half a cosine, and a flat end (DEIM, Huang et al. 2025).

    The factor in iteration i is (i / warmup)^2 up to ``warmup``, 1 up to ``flat``, ``lowest`` in
    the last ``final`` iterations, and between them falls from 1 to ``lowest`` along a cosine. A
    warm-up that is longer than ``flat`` ends on the cosine, as in the released code, which is one
    iteration late: there step i has the factor of i - 1.

    Args:
        max_iter: iterations of the run.
        warmup: iterations.
        flat: iteration in which the cosine begins.
        final: iterations at the end.
        lowest: factor after the cosine, in [0, 1].

    In a config ``warmup``, ``flat`` and ``final`` may be epochs or fractions of the run, too.

    Raises:
        InputError: ``flat`` and ``final`` are together longer than the run.
    """

    lengths: ClassVar = ("warmup", "flat", "final")

    def __init__(
        self, max_iter: int, warmup: int, flat: int, final: int = 0, lowest: float = 0.5
    ) -> None:
        if flat + final > max_iter:
            raise InputError(
                f"lr_multiplier: flat={flat} and final={final} iterations are more than "
                f"train.max_iter={max_iter}: give fractions, which keep their place in any run"
            )
        self.max_iter, self.warmup = max_iter, warmup
        self.flat, self.final, self.lowest = flat, final, lowest

    def __call__(self, where: float) -> float:
        """The factor at ``where`` of the run, in [0, 1)."""
        i = round(where * self.max_iter)
        if self.warmup and i <= self.warmup:
            return (i / self.warmup) ** 2
        if i <= self.flat:
            return 1.0
        if i >= self.max_iter - self.final:
            return self.lowest
        done = (i - self.flat) / (self.max_iter - self.flat - self.final)
        return self.lowest + (1 - self.lowest) * (1 + math.cos(math.pi * done)) / 2
