"""Deformable DETR, R50, 50 epochs.

    python projects/deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/deformable_detr/configs/deformable_detr_r50_50ep.py

Published: 44.9 AP (detrex model zoo); 8 GPUs, 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config

from .models.deformable_detr_r50 import model

dataloader = get_config("common/data/coco_detr.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_50ep
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.max_iter = 375000
train.clip_grad.enabled = True
