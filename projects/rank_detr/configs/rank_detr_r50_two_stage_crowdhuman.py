"""Rank-DETR, R50, on CrowdHuman; configs/common/data/crowdhuman.py says how to lay out the data.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_crowdhuman.py

16 images an iteration. No published figure, and not run here.
"""

from detrex.config import get_config

from .rank_detr_r50_two_stage_12ep import lr_multiplier, model, optimizer, train

dataloader = get_config("common/data/crowdhuman.py").dataloader
train.max_iter = "12ep"
train.eval_period = train.checkpointer.period = "1ep"
