"""DINO, FocalNet-L (384, ImageNet-22k, four focal levels), five levels, 36 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-focal/dino_focalnet_large_lrf_384_fl4_5scale_36ep.py

No published figure; 16 images an iteration, 270,000 iterations.
"""

from detrex.config import get_config

from .dino_focalnet_large_lrf_384_fl4_5scale_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep
train.max_iter = 270000
model.backbone.drop_path_rate = 0.4
