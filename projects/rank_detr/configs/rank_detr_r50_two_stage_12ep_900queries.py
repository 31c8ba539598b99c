"""Rank-DETR, R50, 900 queries, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_12ep_900queries.py

No published figure (300 queries: 50.2 AP); 16 images an iteration, 90,000 iterations.
"""

from .rank_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

model.num_queries_one2one = 900
model.transformer.two_stage_num_proposals = 2400
