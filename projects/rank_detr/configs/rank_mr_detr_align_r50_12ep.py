"""Rank-DETR on Mr. DETR-Align, R50, four levels, 900 queries, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_mr_detr_align_r50_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from ...mr_detr_align.configs.deformable_detr_r50_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    optimizer,
    train,
)
from .models.rank_mr_detr_align_r50 import model
