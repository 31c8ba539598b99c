"""Stable-DINO, R50, four levels, 12 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stabledino_r50_4scale_12ep.py

Published: 50.4 AP (README of Stable-DINO); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe

from .models.stabledino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
train.seed = 60
