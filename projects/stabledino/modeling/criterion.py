"""Stable-DINO's criterion under the arguments of its release."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from detrex.modeling.criterion import TwoStageCriterion
from detrex.modeling.losses import ClassLoss
from detrex.modeling.losses.classification import focal_negative
from detrex.modeling.losses.quality_aware import position_supervised
from detrex.utils.arguments import keep_arguments

SHAPES = {
    "none": lambda t: t,
    "exp": lambda t: torch.expm1(t) / (math.e - 1),
    "sin": lambda t: torch.sin(t * math.pi / 2),
}


EPS = 1e-8


class ReleasedClassLoss(ClassLoss):
    """A class loss whose background term is -log(1 - p + EPS), as in the released code."""

    def cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        background = torch.logaddexp(F.logsigmoid(-logits), logits.new_tensor(EPS).log())
        return -target * F.logsigmoid(logits) - (1 - target) * background


class StableDINOCriterion(TwoStageCriterion):
    """All sets, the encoder's proposals and denoising too, have one class loss: the
    position-supervised one ("stable-dino") or ("none") that of ``loss_class_type``.

    The target is score^``ta_alpha`` * IoU^``ta_beta``, in the shape of ``target_post_process``.

    Raises:
        ValueError: an unknown ``use_ce_loss_type`` or ``target_post_process``.
    """

    usual_set_losses: ClassVar = {}

    @keep_arguments
    def __init__(
        self,
        *args,
        use_ce_loss_type: str = "stable-dino",
        ta_alpha: float = 0.0,
        ta_beta: float = 2.0,
        target_post_process: str = "none",
        **two_stage,
    ) -> None:
        super().__init__(*args, **two_stage)
        if use_ce_loss_type not in ("stable-dino", "none"):
            raise ValueError(
                f"criterion.use_ce_loss_type is 'stable-dino' or 'none', got {use_ce_loss_type!r}"
            )
        if target_post_process not in SHAPES:
            raise ValueError(
                f"criterion.target_post_process is one of {[*SHAPES]}, got {target_post_process!r}"
            )
        if use_ce_loss_type == "stable-dino":
            shape = SHAPES[target_post_process]
            positive = partial(
                position_supervised, score_power=ta_alpha, iou_power=ta_beta, shape=shape
            )
            self.query_loss = ReleasedClassLoss(positive, focal_negative, self.alpha, self.gamma)
