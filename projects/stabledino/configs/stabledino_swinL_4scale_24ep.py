"""Stable-DINO, Swin-L (384, ImageNet-22k), four levels, 24 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stabledino_swinL_4scale_24ep.py

Published: 58.6 AP (README of Stable-DINO); 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .stabledino_swinL_4scale_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
