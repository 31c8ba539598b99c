"""Stable-DINO's loss, cost and fusion on Rank-DETR, R50, 12 epochs.

    python projects/stabledino/train_net.py --num-gpus 8 \
        --config-file projects/stabledino/configs/stable_rank_detr_r50_two_stage_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations. The loss replaces the
GIoU-aware one, the cost the standard one until the high-order cost begins.
"""

from detrex.modeling.matcher import HighOrderPositionMatcher
from projects.stabledino.modeling import StableDINOCriterion, StableDINOTransformerEncoder

from ...rank_detr.configs.rank_detr_r50_two_stage_12ep import (
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
model.criterion.pop("GIoU_aware_class_loss")
model.criterion.matcher._target_ = HighOrderPositionMatcher
