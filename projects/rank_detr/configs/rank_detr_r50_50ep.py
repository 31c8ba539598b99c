"""Single-stage Rank-DETR without box refinement, R50, 50 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_50ep.py

No published figure (upstream's single-stage model crashes); 16 images an iteration, 375,000
iterations.
"""

from detrex.config import get_config

from .rank_detr_r50_two_stage_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_50ep
train.max_iter = 375000
model.with_box_refine = False
model.as_two_stage = False
