"""Rank-DETR with Align-DETR's loss and two queries per target, R50, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_12ep_align.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from detrex.modeling.criterion import ManyToOneCriterion

from .rank_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

model.criterion._target_ = ManyToOneCriterion
model.criterion.pop("GIoU_aware_class_loss")
model.criterion.update(loss_class_type="ia_bce_loss", match_num=[1, 2, 2, 2, 2, 2, 1], tau=1.5)
