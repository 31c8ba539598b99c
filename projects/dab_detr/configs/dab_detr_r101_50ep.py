"""DAB-DETR, R101, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_r101_50ep.py

Published: 44.0 AP (detrex model zoo; paper: 43.5); 375,000 iterations.
"""

from detrex.config import get_config

from .dab_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r101)
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-101.pkl"
