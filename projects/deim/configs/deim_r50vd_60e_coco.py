"""DEIM on RT-DETRv2, ResNet-50-vd, 60 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r50vd_60e_coco.py

Published: 54.3 AP (README of DEIM; RT-DETRv2 itself after 72 epochs: 53.4); 16 images an iteration.
The backbone starts from timm's resnet50d after tools/convert_checkpoint.py.
"""

from detrex.config import get_recipe

from .models.deim_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/deim.py")

train.init_checkpoint = "/path/to/resnet50d.pth"
