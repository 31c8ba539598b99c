"""Anchor DETR, R101, 50 epochs.

    python projects/anchor_detr/train_net.py --num-gpus 8 \
        --config-file projects/anchor_detr/configs/anchor_detr_r101_50ep.py

Published: 43.5 AP (paper); 375,000 iterations.
"""

from .anchor_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.name = "resnet101"
train.init_checkpoint = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
