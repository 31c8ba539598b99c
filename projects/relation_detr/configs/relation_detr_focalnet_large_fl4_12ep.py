"""Relation-DETR, FocalNet-L (384, ImageNet-22k, four focal levels), four levels, 12 epochs.

    python projects/relation_detr/train_net.py --num-gpus 8 \
        --config-file projects/relation_detr/configs/relation_detr_focalnet_large_fl4_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .relation_detr_r50_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/focalnet_large_lrf_384_fl4.pth"

model.update(get_config("common/models/multi_scale.py").focalnet_large_fl4)
model.neck.bias = False
