"""The GIoU-aware classification loss (Rank-DETR, Pu et al. 2023, section 3.3) as a switch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor

from detrex.compat.outputs import Indices
from detrex.compat.overrides import built_in
from detrex.modeling.criterion import SetCriterion
from detrex.modeling.matcher.matcher import Targets
from detrex.modeling.queries import QueryGroup
from detrex.utils.arguments import keep_arguments


class RankDetrCriterion(SetCriterion):
    """``GIoU_aware_class_loss`` replaces the decoder's focal loss; proposals keep focal loss.

    So do denoising queries, unless ``GIoU_aware_denoising``: no released code says which.
    """

    focal_proposals = True

    @keep_arguments
    def __init__(
        self,
        *args,
        loss_class_type: str = "focal_loss",
        GIoU_aware_class_loss: bool = True,
        GIoU_aware_denoising: bool = False,
        set_losses: Mapping[str, str] | None = None,
        **rest,
    ) -> None:
        decoders = "giou_focal_loss" if GIoU_aware_class_loss else loss_class_type
        if set_losses is None:
            plain = "focal_loss" if self.focal_proposals else loss_class_type
            set_losses = {"_enc": plain} | ({} if GIoU_aware_denoising else {"_dn": plain})
        super().__init__(*args, loss_class_type=decoders, set_losses=set_losses, **rest)
        self.loss_class_type = loss_class_type
        self.GIoU_aware_denoising = GIoU_aware_denoising

    def loss_arguments(self, loss: str, outputs: dict) -> dict[str, object]:
        """As upstream, ``loss_labels`` has an argument for whether the loss is GIoU-aware."""
        arguments = super().loss_arguments(loss, outputs)
        parameters = inspect.signature(self.loss_labels).parameters
        if loss == "class" and "GIoU_aware_class_loss" in parameters:
            group = outputs.get("group") or QueryGroup()
            known = group.assign is not None and not self.GIoU_aware_denoising
            plain = known or outputs.get("stage") == "encoder"
            arguments["GIoU_aware_class_loss"] = self.GIoU_aware_class_loss and not plain
        return arguments

    @built_in
    def loss_labels(
        self,
        outputs: dict,
        targets: Targets,
        indices: Indices,
        num_boxes: float | Tensor,
        GIoU_aware_class_loss: bool = True,
    ) -> dict[str, Tensor]:
        if not GIoU_aware_class_loss:
            outputs = {**outputs, "stage": "encoder", "group": None}
        return super().loss_labels(outputs, targets, indices, num_boxes)
