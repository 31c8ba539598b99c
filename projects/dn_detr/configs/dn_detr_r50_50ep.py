"""DN-DETR, R50, 50 epochs.

    python projects/dn_detr/train_net.py --num-gpus 8 \
        --config-file projects/dn_detr/configs/dn_detr_r50_50ep.py

Published: 44.7 AP (detrex model zoo; paper: 44.1); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.dn_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")
