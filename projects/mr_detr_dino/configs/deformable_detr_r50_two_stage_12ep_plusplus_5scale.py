"""Mr. DETR with denoising queries, R50, five levels, 300 queries, 12 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_dino/configs/deformable_detr_r50_two_stage_12ep_plusplus_5scale.py

Published: none; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .deformable_detr_r50_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
model.update(num_queries=300, select_box_nums_for_evaluation=100)
