"""DAC-DETR with IoU-aware scores, Swin-L (384, ImageNet-22k), 900 queries, 24 epochs.

    python projects/dac_detr/train_net.py --num-gpus 8 \
        --config-file projects/dac_detr/configs/dac_detr_swin_large_24ep.py

Published: 59.3 AP (README of DAC-DETR); 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .dac_detr_swin_large_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000

# As released, with 24 epochs alone.
model.backbone.drop_path_rate = 0.5
optimizer.weight_decay = 0.05
