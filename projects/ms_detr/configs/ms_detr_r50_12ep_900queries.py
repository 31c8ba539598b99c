"""MS-DETR on two-stage Deformable DETR, R50, 900 queries, 12 epochs.

    python projects/ms_detr/train_net.py --num-gpus 8 \
        --config-file projects/ms_detr/configs/ms_detr_r50_12ep_900queries.py

Published: 50.0 AP (README of MS-DETR); 16 images an iteration, 90,000 iterations.
"""

from .ms_detr_r50_12ep import dataloader, lr_multiplier, model, optimizer, train

model.num_queries = 900
