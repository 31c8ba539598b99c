"""Align-DETR on DAB-DETR, R50 with a dilated last stage, 50 epochs.

    python projects/align_dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_dab_detr/configs/align_dab_detr_r50_dc5_50ep.py

Published: 48.3 AP (paper); 375,000 iterations.
"""

from detrex.config import get_config

from .align_dab_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r50_dilated)
model.criterion.match_number = [1] * 7  # as released for this backbone
