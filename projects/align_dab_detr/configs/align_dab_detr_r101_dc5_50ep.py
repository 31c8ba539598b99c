"""Align-DETR on DAB-DETR, R101 with a dilated last stage, 50 epochs.

    python projects/align_dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_dab_detr/configs/align_dab_detr_r101_dc5_50ep.py

Published: 49.3 AP (paper; no config was released); 375,000 iterations.
"""

from detrex.config import get_config

from .align_dab_detr_r101_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r101_dilated)
