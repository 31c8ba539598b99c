"""DN-Deformable-DETR, R50, 50 epochs.

    python projects/dn_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/dn_deformable_detr/configs/dn_deformable_detr_r50_50ep.py

Published: 49.5 AP (README of DN-DETR); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.dn_deformable_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_50ep

train.max_iter = 375000
