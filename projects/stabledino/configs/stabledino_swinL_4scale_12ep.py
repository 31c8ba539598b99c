"""Stable-DINO, Swin-L (384, ImageNet-22k), four levels, 12 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stabledino_swinL_4scale_12ep.py

Published: 57.7 AP (README of Stable-DINO); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .stabledino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22k.pth"

model.update(get_config("common/models/multi_scale.py").swin_large_384)
