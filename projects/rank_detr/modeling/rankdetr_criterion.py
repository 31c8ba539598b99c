"""The GIoU-aware classification loss (Rank-DETR, Pu et al. 2023, section 3.3) as a switch."""

from __future__ import annotations

from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.losses import ClassLoss


class RankDetrCriterion(SetCriterion):
    """``GIoU_aware_class_loss`` replaces the decoder's focal loss; proposals keep focal loss.

    So do denoising queries, unless ``GIoU_aware_denoising``: no released code says which.
    """

    def __init__(
        self,
        *args,
        loss_class_type: str = "focal_loss",
        GIoU_aware_class_loss: bool = True,
        GIoU_aware_denoising: bool = False,
        **rest,
    ) -> None:
        if GIoU_aware_class_loss:
            loss_class_type = "giou_focal_loss"
        super().__init__(*args, loss_class_type=loss_class_type, **rest)
        self.GIoU_aware_denoising = GIoU_aware_denoising

    def loss_of(self, predictions: Predictions) -> ClassLoss:
        if predictions.group.assign is not None and not self.GIoU_aware_denoising:
            return self.proposal_loss
        return super().loss_of(predictions)
