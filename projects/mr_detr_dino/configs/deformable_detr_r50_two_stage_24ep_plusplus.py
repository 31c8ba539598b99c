"""Mr. DETR with denoising queries, R50, four levels, 300 queries, 24 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_dino/configs/deformable_detr_r50_two_stage_24ep_plusplus.py

Published: none; 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .deformable_detr_r50_two_stage_12ep_plusplus import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
model.num_queries = 300
