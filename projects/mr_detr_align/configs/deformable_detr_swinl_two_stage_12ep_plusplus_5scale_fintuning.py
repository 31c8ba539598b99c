"""Mr. DETR-Align, Swin-L (384), five levels, 900 queries, fine-tuned from Objects365, 12 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_align/configs/deformable_detr_swinl_two_stage_12ep_plusplus_5scale_fintuning.py

Published: 61.8 AP (README of Mr. DETR), after 549,000 iterations on Objects365; 16 images an
iteration, 90,000 iterations. All but the five levels is as in the config of four.
"""

from detrex.config import get_config

from .deformable_detr_swinl_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

train.init_checkpoint = "/path/to/mr_detr_objects365.pth"
model.update(get_config("common/models/multi_scale.py").swin_large_384_5scale)
model.transformer.num_feature_levels = 5
model.transformer.encoder.use_checkpoint = True
