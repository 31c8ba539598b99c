"""Rank-DETR, R50, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py

Published: 50.2 AP (README of Rank-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .models.rank_detr_r50 import model

dataloader = get_config("common/data/coco_detr.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.max_iter = 90000
train.clip_grad.enabled = True

model.with_box_refine = True
model.as_two_stage = True
