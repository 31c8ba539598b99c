"""Single-stage H-Deformable-DETR without box refinement, R50, 50 epochs.

    python projects/h_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/h_deformable_detr/configs/h_deformable_detr_r50_50ep.py

No published figure; 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config

from .h_deformable_detr_r50_two_stage_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_50ep
train.max_iter = 375000
model.with_box_refine = False
model.as_two_stage = False
