"""RT-DETR, ResNet-34-vd, four decoder layers, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r34vd_6x_coco.py

Published: 48.9 AP (README of RT-DETR).
"""

from detrex.config import get_config

from .rtdetr_r50vd_6x_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/resnet34d.pth"

model.update(get_config("common/models/resnet_vd.py").r34)
model.transformer.decoder.num_layers = 4
