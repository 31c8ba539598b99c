"""Rank-DETR with DDQ's distinct queries, R50, 12 epochs.

    python projects/ddq_detr/train_net.py --num-gpus 8 \
        --config-file projects/ddq_detr/configs/ddq_rank_detr_r50_two_stage_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from ...rank_detr.configs.rank_detr_r50_two_stage_12ep import (
    dataloader,
    lr_multiplier,
    optimizer,
    train,
)
from .models.ddq_rank_detr_r50 import model

model.with_box_refine = True
model.as_two_stage = True
