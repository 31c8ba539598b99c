"""DEIM on RT-DETRv2, ResNet-50-vd with narrow fusion blocks, three decoder layers, 60 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r50vd_m_60e_coco.py

Published: 53.2 AP (README of DEIM; RT-DETRv2: 51.9).
"""

from .deim_r50vd_60e_coco import dataloader, lr_multiplier, model, optimizer, train

model.neck.expansion = 0.5
model.transformer.decoder.num_layers = 3
