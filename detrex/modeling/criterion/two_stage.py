"""Criteria of methods that choose proposals by their best class, and k-to-one matching."""

from __future__ import annotations

import torch
from torch import Tensor

from detrex.compat.overrides import ours
from detrex.modeling.matcher.matcher import Targets

from .criterion import SetCriterion
from .layer_losses import count_objects

ABSENT: dict = {}  # no denoising, as opposed to a batch with nothing to denoise


class TwoStageCriterion(SetCriterion):
    """Set criterion whose proposals answer for real labels (DINO).

    ``two_stage_binary_cls``: they answer for class 0 instead, as in Deformable DETR.
    """

    def __init__(self, *args, two_stage_binary_cls: bool = False, **rest) -> None:
        super().__init__(*args, **rest)
        self.two_stage_binary_cls = two_stage_binary_cls

    @ours
    def forward(self, outputs: dict, targets: Targets, dn_metas: dict | None = ABSENT) -> dict:
        """Upstream's format, with DINO's denoising queries in ``dn_metas``: "dn_num" blocks, each
        "single_padding" wide, and their "output_known_lbs_bboxes", None if there are none."""
        losses = super().forward(outputs, targets)
        if dn_metas is not ABSENT:
            layers, num_boxes = len(outputs.get("aux_outputs", ())), count_objects(outputs, targets)
            losses.update(self.compute_dn_loss(dn_metas, targets, layers, num_boxes))
        return losses

    @ours
    def compute_dn_loss(
        self, dn_metas: dict | None, targets: Targets, aux_num: int, num_boxes: float
    ) -> dict[str, Tensor]:
        """DINO's denoising losses: "loss_class_dn", "loss_class_dn_0"; zeros without queries."""
        if not dn_metas or "output_known_lbs_bboxes" not in dn_metas:
            kinds, numbers = ("class", "bbox", "giou"), ("", *(f"_{i}" for i in range(aux_num)))
            zeros = targets[0]["boxes"].new_zeros(len(kinds) * len(numbers))
            names = [f"loss_{kind}_dn{number}" for kind in kinds for number in numbers]
            return dict(zip(names, torch.unbind_copy(zeros), strict=True))
        known, blocks = dn_metas["output_known_lbs_bboxes"], dn_metas["dn_num"]
        shape = blocks, dn_metas["single_padding"]
        return self.denoising_losses(known, targets, shape, aux_num, num_boxes)
