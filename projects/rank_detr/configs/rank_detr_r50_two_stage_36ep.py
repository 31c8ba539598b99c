"""Rank-DETR, R50, 36 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_36ep.py

Published: 51.2 AP (README of Rank-DETR); 16 images an iteration, 270,000 iterations.
"""

from detrex.config import get_config

from .rank_detr_r50_two_stage_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep
train.max_iter = 270000
