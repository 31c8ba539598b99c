"""DINO with DDQ's distinct queries, R50, 4 levels, 12 epochs.

    python projects/ddq_detr/train_net.py --num-gpus 8 \
        --config-file projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py

Published: none for this setting (DDQ-DETR has a dense auxiliary branch, too); 16 images an
iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.ddq_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep_warmup
optimizer.lr = 2e-4
optimizer.weight_decay = 0.05
