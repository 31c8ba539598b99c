"""LW-DETR small, ViT-Ti with ten blocks, 60 epochs.

    python projects/lw_detr/train_net.py --num-gpus 8 \
        --config-file projects/lw_detr/configs/lw_detr_small_60e_coco.py

Published: 48.0 AP (README of LW-DETR), from weights that were trained on Objects365; 32 images an
iteration.
"""

from detrex.config import get_recipe

from .models.lw_detr import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/lw_detr.py")

train.init_checkpoint = "/path/to/lw_detr_small_objects365.pth"
