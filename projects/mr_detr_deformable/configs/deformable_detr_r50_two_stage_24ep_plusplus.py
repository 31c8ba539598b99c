"""Mr. DETR on Deformable DETR, R50, four levels, 900 queries, 24 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_deformable/configs/deformable_detr_r50_two_stage_24ep_plusplus.py

Published: 51.4 AP (README of Mr. DETR); 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .deformable_detr_r50_two_stage_12ep_plusplus import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
model.position_embedding.update(temperature=20, offset=0.0)
