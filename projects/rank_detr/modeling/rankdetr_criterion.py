"""The GIoU-aware classification loss (Rank-DETR, Pu et al. 2023, section 3.3) as a switch."""

from __future__ import annotations

from detrex.modeling.criterion import SetCriterion


class RankDetrCriterion(SetCriterion):
    """``GIoU_aware_class_loss`` replaces the decoder's focal loss; proposals keep focal loss."""

    def __init__(
        self, *args, loss_class_type: str = "focal_loss", GIoU_aware_class_loss: bool = True, **rest
    ) -> None:
        if GIoU_aware_class_loss:
            loss_class_type = "giou_focal_loss"
        super().__init__(*args, loss_class_type=loss_class_type, **rest)
