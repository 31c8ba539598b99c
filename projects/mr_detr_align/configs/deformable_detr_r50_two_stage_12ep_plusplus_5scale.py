"""Mr. DETR with denoising queries and Align-DETR's class loss, R50, five levels, 900 queries, 24 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_align/configs/deformable_detr_r50_two_stage_12ep_plusplus_5scale.py

Published: none; 16 images an iteration, 180,000 iterations.
"""

from detrex.config import get_config

from .deformable_detr_r50_two_stage_12ep_plusplus import dataloader, model, optimizer, train

# As released, whose file of this name runs 24 epochs.
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
model.transformer.encoder.use_checkpoint = True
