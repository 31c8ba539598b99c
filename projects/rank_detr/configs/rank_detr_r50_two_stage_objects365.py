"""Rank-DETR, R50, on Objects365; configs/common/data/objects365.py says how to lay out the data.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_objects365.py

16 images an iteration. No published figure, and not run here.
"""

from detrex.config import get_config

from .rank_detr_r50_two_stage_12ep import lr_multiplier, model, optimizer, train

dataloader = get_config("common/data/objects365.py").dataloader
train.max_iter = "12ep"
train.eval_period = train.checkpointer.period = "1ep"
