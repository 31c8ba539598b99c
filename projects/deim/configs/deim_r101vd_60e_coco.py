"""DEIM on RT-DETRv2, ResNet-101-vd with a wider neck, 60 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r101vd_60e_coco.py

Published: 55.5 AP (README of DEIM; RT-DETRv2: 54.3).
"""

from .deim_r50vd_60e_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/resnet101d.pth"

model.backbone.stages.depth = 101
model.neck.update(embed_dim=384, feedforward_dim=2048)
optimizer.params.lr_factors[1].factor = 0.01
