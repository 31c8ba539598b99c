"""Align-DETR as released (k = 2), R50, four levels, 36 epochs.

    python projects/align_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_detr/configs/aligndetr_k=2_r50_4scale_36ep.py

Published: none; 16 images an iteration, 270,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.aligndetr_k2_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep

train.max_iter = 270000
train.checkpointer.period = 10000
train.log_period = 100
