"""Conditional DETR, R101 with a dilated last stage, 50 epochs.

    python projects/conditional_detr/train_net.py --num-gpus 8 \
        --config-file projects/conditional_detr/configs/conditional_detr_r101_dc5_50ep.py

Published: 45.0 AP (paper); 375,000 iterations.
"""

from detrex.config import get_config

from .conditional_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r101_dc5)
train.init_checkpoint = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
