"""RF-DETR (Robinson et al. 2025, arXiv 2511.09554): LW-DETR on DINOv2."""

from __future__ import annotations

from detrex.modeling.train_sizes import TrainSizes
from projects.lw_detr.modeling import LWDETR


class RFDETR(TrainSizes, LWDETR):
    """LW-DETR trained on batches of drawn sizes."""

    resize_mode = "bilinear"
