"""RT-DETR, ResNet-18-vd, three decoder layers, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r18vd_6x_coco.py

Published: 46.5 AP (README of RT-DETR).
"""

from detrex.config import get_config

from .rtdetr_r50vd_6x_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/resnet18d.pth"

model.update(get_config("common/models/resnet_vd.py").r18)
model.transformer.decoder.num_layers = 3
