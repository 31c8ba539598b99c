"""Relation-DETR, Swin-L (384, ImageNet-22k), four levels, 24 epochs.

    python projects/relation_detr/train_net.py --num-gpus 8 \
        --config-file projects/relation_detr/configs/relation_detr_swin_large_24ep.py

Published: 58.1 AP (README of Relation-DETR); 16 images an iteration, 180,000 iterations. That the
learning rate drops after 20 epochs is a choice made here.
"""

from detrex.config import get_config

from .relation_detr_swin_large_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
