"""50 epochs of COCO at batch 16: ``dataloader, lr_multiplier, optimizer, train``."""

import torch
from detectron2.config import LazyCall as L

from detrex.config import get_config
from detrex.train.optim import param_groups

dataloader = get_config("common/data/coco_detr.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_50ep

train = get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.max_iter = 375000
train.clip_grad.enabled = True

optimizer = L(torch.optim.AdamW)(
    params=L(param_groups)(
        base_lr="${..lr}",
        lr_factors=[dict(names=["backbone"], factor=0.1)],
        weight_decay_norm=0.0,
    ),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
)
