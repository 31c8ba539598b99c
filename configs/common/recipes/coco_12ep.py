"""12 epochs of COCO at batch 16, lr 1e-4: ``dataloader, lr_multiplier, optimizer, train``."""

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep

train = get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.max_iter = 90000
train.clip_grad.enabled = True

# A slow backbone and no decay on norms; sampling offsets learn at the full rate.
optimizer = get_config("common/optim.py").AdamW_deformable
optimizer.lr = 1e-4
optimizer.params.lr_factors = [dict(names=["backbone"], factor=0.1)]
optimizer.params.weight_decay_norm = 0.0
