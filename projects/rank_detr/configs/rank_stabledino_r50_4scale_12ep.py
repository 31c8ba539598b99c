"""Rank-DETR on Stable-DINO, R50, four levels, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_stabledino_r50_4scale_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from ...stabledino.configs.stabledino_r50_4scale_12ep import (
    dataloader,
    lr_multiplier,
    optimizer,
    train,
)
from .models.rank_stabledino_r50 import model
