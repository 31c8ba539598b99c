"""Rank-DETR on DINO, Swin-L (384, ImageNet-22k), four levels, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_dino_swin_large_4scale_12ep.py

Published: 57.6 AP (Rank-DETR; code not released); 16 images an iteration, 90,000 iterations. The
loss weights and the treatment of denoising queries are choices made here.
"""

from detrex.config import get_config

from .rank_dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/rank_dino_swin_large_4scale_12ep"
dataloader.evaluator.output_dir = train.output_dir
train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22kto1k.pth"

model.update(get_config("common/models/multi_scale.py").swin_large_384)
