"""DN-Deformable-DETR, R50, 12 epochs.

    python projects/dn_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/dn_deformable_detr/configs/dn_deformable_detr_r50_12ep.py

No published figure for this setting; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .dn_deformable_detr_r50_50ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep
train.max_iter = 90000
