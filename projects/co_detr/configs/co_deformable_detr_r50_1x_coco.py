"""Co-Deformable-DETR, R50, 300 queries, 12 epochs.

    python projects/co_detr/train_net.py --num-gpus 8 \
        --config-file projects/co_detr/configs/co_deformable_detr_r50_1x_coco.py

Published: 49.5 AP (README of Co-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.co_deformable_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
optimizer = get_config("common/optim.py").AdamW_deformable
