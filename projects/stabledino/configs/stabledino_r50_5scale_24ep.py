"""Stable-DINO, R50, five levels, 24 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stabledino_r50_5scale_24ep.py

No published figure; 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .stabledino_r50_5scale_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
