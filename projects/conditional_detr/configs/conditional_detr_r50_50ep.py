"""Conditional DETR, R50, 50 epochs.

    python projects/conditional_detr/train_net.py --num-gpus 8 \
        --config-file projects/conditional_detr/configs/conditional_detr_r50_50ep.py

Published: 40.9 AP (paper); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.conditional_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")
