"""H-Deformable-DETR with IoU-aware BCE, R50, 12 epochs.

    python projects/align_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_detr/configs/align_h_deformable_detr_r50_two_stage_12ep.py

Published: 49.3 AP (Align-DETR, table 7; code not released); 16 images an iteration, 90,000
iterations. The paper does not say which sets take the loss; here all of them do.
"""

from detrex.modeling.criterion import ManyToOneCriterion

from ...h_deformable_detr.configs.h_deformable_detr_r50_two_stage_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.criterion._target_ = ManyToOneCriterion
model.criterion.loss_class_type = "ia_bce_loss"
# One query per target everywhere: the hybrid branch already trains with several.
model.criterion.match_num = [1, 1, 1, 1, 1, 1, 1]
