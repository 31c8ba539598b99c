"""DEIM on RT-DETRv2, ResNet-18-vd, three decoder layers, 120 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r18vd_120e_coco.py

Published: 49.0 AP (README of DEIM; RT-DETRv2: 47.9).
"""

from detrex.config import get_config, get_recipe

from .models.deim_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/deim_120ep.py")

train.init_checkpoint = "/path/to/resnet18d.pth"

model.update(get_config("common/models/resnet_vd.py").r18)
model.transformer.decoder.num_layers = 3
model.train_sizes_until = 117 / 120
optimizer.params.lr_factors = []
