"""Mr. DETR on Deformable DETR, R50, four levels, 300 queries, 12 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_deformable/configs/deformable_detr_r50_two_stage_12ep_plusplus_300q.py

Published: 49.5 AP (README of Mr. DETR); 16 images an iteration, 90,000 iterations.
"""

from .deformable_detr_r50_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.num_queries = 300
