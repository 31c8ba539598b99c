"""DDQ-DETR, R50, 5 levels, 12 epochs.

    python projects/ddq_detr/train_net.py --num-gpus 8 \
        --config-file projects/ddq_detr/configs/ddq_detr_r50_5scale_12ep.py

Published: 52.1 AP (README of DDQ); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .ddq_detr_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
