"""Two-stage H-Deformable-DETR, Swin-T (ImageNet-1k), 36 epochs.

    python projects/h_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/h_deformable_detr/configs/h_deformable_detr_swin_tiny_two_stage_36ep.py

Published: 53.2 AP (README of H-Deformable-DETR); 16 images an iteration, 270,000 iterations.
"""

from detrex.config import get_config

from .h_deformable_detr_swin_tiny_two_stage_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep
train.max_iter = 270000
