"""Co-DINO, R50, five levels, nine encoder layers, large-scale jitter, 36 epochs.

    python projects/co_detr/train_net.py --num-gpus 8 \
        --config-file projects/co_detr/configs/co_dino_5scale_9encoder_lsj_r50_3x_coco.py

Published: 55.4 AP (README of Co-DETR), with soft-NMS, which is not applied here; 16 images an
iteration, 270,000 iterations.
"""

from detrex.config import get_config

from .co_dino_5scale_9encoder_lsj_r50_1x_coco import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep
train.max_iter = 270000
