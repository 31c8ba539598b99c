"""Relation-DETR, Swin-L (384, ImageNet-22k), four levels, 12 epochs.

    python projects/relation_detr/train_net.py --num-gpus 8 \
        --config-file projects/relation_detr/configs/relation_detr_swin_large_12ep.py

Published: 57.8 AP (README of Relation-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .relation_detr_r50_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22k.pth"

model.update(get_config("common/models/multi_scale.py").swin_large_384)
model.neck.bias = False
