"""Align-DETR (Cai et al. 2023) on DINO: scores that align with localisation.

The method is in the criterion: :class:`~detrex.modeling.criterion.ManyToOneCriterion`.
"""

from __future__ import annotations

import math

from torch import nn

from detrex.utils.arguments import keep_arguments
from projects.dino.modeling import DINO


class AlignDETR(DINO):
    """DINO whose scores start at ``prior_init``. The other arguments are DINO's."""

    @keep_arguments
    def __init__(self, *, prior_init: float = 0.01, **dino) -> None:
        super().__init__(**dino)
        for head in self.class_embed:
            nn.init.constant_(head.bias, -math.log((1 - prior_init) / prior_init))
