"""Rank-DETR's parts on RT-DETR, ResNet-50-vd, 72 epochs.

    python projects/rank_rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rank_rt_detr/configs/rank_rtdetr_r50vd_6x_coco.py

New here: no published figure (RT-DETR itself: 53.1 AP).
"""

from detrex.config import get_recipe

from .models.rank_rtdetr_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/rt_detr.py")

train.init_checkpoint = "/path/to/resnet50d.pth"
