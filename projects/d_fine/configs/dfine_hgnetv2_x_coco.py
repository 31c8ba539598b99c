"""D-FINE-X, HGNetv2-B5 with a wider neck, 80 epochs.

    python projects/d_fine/train_net.py --num-gpus 4 \
        --config-file projects/d_fine/configs/dfine_hgnetv2_x_coco.py

Published: 55.8 AP (README of D-FINE).
"""

from detrex.config import get_config

from .dfine_hgnetv2_l_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/hgnetv2_b5.pth"

model.update(get_config("common/models/hgnetv2.py").x)
model.transformer.decoder.reg_scale = 8.0
optimizer.params.lr_factors[0].factor = 0.01
