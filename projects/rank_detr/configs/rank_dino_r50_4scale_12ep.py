"""Rank-DETR on DINO, R50, four levels, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_dino_r50_4scale_12ep.py

Published: 50.4 AP (Rank-DETR; code not released); 16 images an iteration, 90,000 iterations. The
loss weights and the treatment of denoising queries are choices made here.
"""

from detrex.config import get_recipe

from .models.rank_dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
