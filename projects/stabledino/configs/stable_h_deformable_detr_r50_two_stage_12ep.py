"""Stable-DINO's loss, cost and fusion on H-Deformable-DETR, R50, 12 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stable_h_deformable_detr_r50_two_stage_12ep.py

Published: 49.2 AP (README of Stable-DINO; code not released); 16 images an iteration, 90,000
iterations. The weight of the class loss is Stable-DINO's: a choice made here.
"""

from projects.stabledino.modeling import (
    StableDINOCriterion,
    StableDINOHungarianMatcher,
    StableDINOTransformerEncoder,
)

from ...h_deformable_detr.configs.h_deformable_detr_r50_two_stage_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.transformer.encoder._target_ = StableDINOTransformerEncoder
model.transformer.encoder.multi_level_fusion = "dense-fusion"
model.criterion._target_ = StableDINOCriterion
model.criterion.weight_dict.loss_class = 6.0
model.criterion.matcher._target_ = StableDINOHungarianMatcher
