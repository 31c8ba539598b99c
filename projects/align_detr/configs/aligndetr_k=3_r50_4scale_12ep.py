"""Align-DETR as in the paper (k = 3, the encoder one-to-one), R50, four levels, 12 epochs.

    python projects/align_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_detr/configs/aligndetr_k=3_r50_4scale_12ep.py

Published: 50.2 AP (Align-DETR, table 3); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe

from .models.aligndetr_k2_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.checkpointer.period = 10000
train.log_period = 100
model.criterion.match_num = [1, 3, 3, 3, 3, 3, 1]
