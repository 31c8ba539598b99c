"""Rank-DETR, Swin-T (ImageNet-1k), 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_swin_tiny_two_stage_12ep.py

Published: 52.7 AP (README of Rank-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .rank_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/rank_detr_swin_tiny_two_stage_12ep"
dataloader.evaluator.output_dir = train.output_dir
train.init_checkpoint = "/path/to/swin_tiny_patch4_window7_224.pth"

model.update(get_config("common/models/multi_scale.py").swin_tiny)
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.use_checkpoint = True
