"""DEIM on RT-DETRv2, ResNet-34-vd, four decoder layers, 120 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r34vd_120e_coco.py

Published: 50.9 AP (README of DEIM; RT-DETRv2: 49.9).
"""

from detrex.config import get_config, get_recipe

from .models.deim_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/deim_120ep.py")

train.init_checkpoint = "/path/to/resnet34d.pth"

model.update(get_config("common/models/resnet_vd.py").r34)
model.transformer.decoder.num_layers = 4
model.train_sizes_until = 117 / 120
optimizer.params.lr_factors[1].factor = 0.5
