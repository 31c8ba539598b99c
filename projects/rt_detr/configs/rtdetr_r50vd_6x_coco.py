"""RT-DETR, ResNet-50-vd, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py

Published: 53.1 AP (README of RT-DETR); 16 images an iteration on 4 GPUs. The backbone started from
ImageNet weights that timm does not have; those of its resnet50d fit after tools/convert_checkpoint.py.
"""

from detrex.config import get_recipe

from .models.rtdetr_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/rt_detr.py")

train.init_checkpoint = "/path/to/resnet50d.pth"
