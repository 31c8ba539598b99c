"""RT-DETR, ResNet-50-vd with narrow fusion blocks, scored after three of six layers, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r50vd_m_6x_coco.py

Published: 51.3 AP (README of RT-DETR).
"""

from detrex.config import get_config

from .rtdetr_r50vd_6x_coco import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/resnet_vd.py").r50_m)
model.transformer.decoder.eval_layers = 3
