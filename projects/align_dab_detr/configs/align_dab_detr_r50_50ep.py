"""Align-DETR on DAB-DETR, R50, 50 epochs.

    python projects/align_dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_dab_detr/configs/align_dab_detr_r50_50ep.py

Published: 46.0 AP (paper); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.align_dab_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")
