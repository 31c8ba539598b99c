"""Anchor DETR, R101 with a dilated last stage, 50 epochs.

    python projects/anchor_detr/train_net.py --num-gpus 8 \
        --config-file projects/anchor_detr/configs/anchor_detr_r101_dc5_50ep.py

Published: 45.1 AP (paper); 375,000 iterations.
"""

from .anchor_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.update(name="resnet101", dilation=True)
train.init_checkpoint = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
