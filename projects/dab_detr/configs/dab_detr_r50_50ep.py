"""DAB-DETR, R50, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_r50_50ep.py

Published: 43.3 AP (detrex model zoo; paper: 42.2); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.dab_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")
