"""DAC-DETR with IoU-aware scores, Swin-L (384, ImageNet-22k), 900 queries, 12 epochs.

    python projects/dac_detr/train_net.py --num-gpus 8 \
        --config-file projects/dac_detr/configs/dac_detr_swin_large_12ep.py

Published: 58.1 AP (README of DAC-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .dac_detr_r50_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22k.pth"

model.update(get_config("common/models/multi_scale.py").swin_large_384)
