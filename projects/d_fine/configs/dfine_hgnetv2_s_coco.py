"""D-FINE-S, HGNetv2-B0, three decoder layers, 132 epochs.

    python projects/d_fine/train_net.py --num-gpus 4 \
        --config-file projects/d_fine/configs/dfine_hgnetv2_s_coco.py

Published: 48.5 AP (README of D-FINE).
"""

from detrex.config import get_config

from .dfine_hgnetv2_l_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/hgnetv2_b0.pth"
train.max_iter = "132ep"

model.update(get_config("common/models/hgnetv2.py").s)
model.transformer.decoder.num_layers = 3
model.train_sizes = [*range(480, 640, 32), *[640] * 20, *range(672, 801, 32)]
optimizer.update(lr=2e-4, weight_decay=1e-4)
optimizer.params.weight_decay_bias = 0.0
optimizer.params.lr_factors[0].factor = 0.5
