"""Stable-DINO, R50, five levels, 12 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stabledino_r50_5scale_12ep.py

Published: 50.5 AP (README of Stable-DINO); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .stabledino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
