"""Align-DETR's loss and two queries per target on Relation-DETR, R50, 12 epochs.

    python projects/align_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_detr/configs/align_relation_detr_r50_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from detrex.modeling.criterion import ManyToOneCriterion

from ...relation_detr.configs.relation_detr_r50_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.criterion._target_ = ManyToOneCriterion
model.criterion.update(loss_class_type="ia_bce_loss", match_num=[2, 2, 2, 2, 2, 2, 1], tau=1.5)
