"""Anchor DETR, R50 with a dilated last stage, 50 epochs.

    python projects/anchor_detr/train_net.py --num-gpus 8 \
        --config-file projects/anchor_detr/configs/anchor_detr_r50_dc5_50ep.py

Published: 44.2 AP (paper); 375,000 iterations.
"""

from .anchor_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.dilation = True
