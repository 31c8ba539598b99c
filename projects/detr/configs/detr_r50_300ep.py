"""DETR, R50, 300 epochs.

    python projects/detr/train_net.py --num-gpus 8 \
        --config-file projects/detr/configs/detr_r50_300ep.py

Published: 42.0 AP after 500 epochs (DETR paper); 64 images an iteration, 554,400 iterations.
"""

from detrex.config import get_recipe

from .models.detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")

dataloader.train.total_batch_size = 64
train.max_iter = 554400
lr_multiplier.scheduler.milestones = [369600, 554400]
train.clip_grad.enabled = False  # as upstream
