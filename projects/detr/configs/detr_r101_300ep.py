"""DETR, R101, 300 epochs.

    python projects/detr/train_net.py --num-gpus 8 \
        --config-file projects/detr/configs/detr_r101_300ep.py

Published: 43.5 AP after 500 epochs (DETR paper); 64 images an iteration, 554,400 iterations.
"""

from detrex.config import get_config

from .detr_r50_300ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r101)
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-101.pkl"
