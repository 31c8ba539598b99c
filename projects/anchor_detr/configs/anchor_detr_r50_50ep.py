"""Anchor DETR, R50, 50 epochs.

    python projects/anchor_detr/train_net.py --num-gpus 8 \
        --config-file projects/anchor_detr/configs/anchor_detr_r50_50ep.py

Published: 42.1 AP (paper); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.anchor_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")

train.init_checkpoint = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
