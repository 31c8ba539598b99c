"""Group-DETR on Conditional DETR, R50, 11 groups, 50 epochs.

    python projects/group_detr/train_net.py --num-gpus 8 \
        --config-file projects/group_detr/configs/group_detr_r50_50ep.py

Published: none for this schedule (37.6 AP after 12 epochs); 16 images, 375,000 iterations.
"""

from detrex.config import get_recipe

from .models.group_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/single_scale_50ep.py")
