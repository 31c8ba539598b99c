"""Align-DETR as released (k = 2), R50, four levels, 12 epochs.

    python projects/align_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_detr/configs/aligndetr_k=2_r50_4scale_12ep.py

Published: 50.3 AP (README of Align-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe

from .models.aligndetr_k2_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.checkpointer.period = 10000
train.log_period = 100
