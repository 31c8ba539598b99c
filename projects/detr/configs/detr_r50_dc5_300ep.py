"""DETR, R50 with a dilated last stage, 300 epochs.

    python projects/detr/train_net.py --num-gpus 8 \
        --config-file projects/detr/configs/detr_r50_dc5_300ep.py

Published: 43.3 AP after 500 epochs (DETR paper); 64 images an iteration, 554,400 iterations.
"""

from detrex.config import get_config

from .detr_r50_300ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r50_dc5)
train.init_checkpoint = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
