"""Two-stage H-Deformable-DETR, Swin-L (ImageNet-22k), 900 queries, 36 epochs.

    python projects/h_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/h_deformable_detr/configs/h_deformable_detr_swin_large_two_stage_36ep_900queries.py

Published: 57.4 AP (README of H-Deformable-DETR); 16 images an iteration, 270,000 iterations.
"""

from .h_deformable_detr_swin_large_two_stage_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.num_queries_one2one = 900
model.transformer.two_stage_num_proposals = 2400
