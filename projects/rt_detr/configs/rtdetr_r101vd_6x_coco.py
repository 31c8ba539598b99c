"""RT-DETR, ResNet-101-vd with a wider neck, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r101vd_6x_coco.py

Published: 54.3 AP (README of RT-DETR).
"""

from detrex.config import get_config

from .rtdetr_r50vd_6x_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/resnet101d.pth"

model.update(get_config("common/models/resnet_vd.py").r101)
optimizer.params.lr_factors[0].factor = 0.01
