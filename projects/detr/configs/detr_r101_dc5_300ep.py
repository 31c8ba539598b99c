"""DETR, R101 with a dilated last stage, 300 epochs.

    python projects/detr/train_net.py --num-gpus 8 \
        --config-file projects/detr/configs/detr_r101_dc5_300ep.py

Published: 44.9 AP after 500 epochs (DETR paper); 64 images an iteration, 554,400 iterations.
"""

from detrex.config import get_config

from .detr_r50_300ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r101_dc5)
train.init_checkpoint = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
