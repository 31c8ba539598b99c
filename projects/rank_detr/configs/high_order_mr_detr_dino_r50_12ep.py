"""Mr. DETR with denoising queries and Rank-DETR's high-order cost, R50, 900 queries, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/high_order_mr_detr_dino_r50_12ep.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from ...mr_detr_dino.configs.deformable_detr_r50_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from .models.rank_dino_r50 import model as _rank

model.criterion.matcher = _rank.criterion.matcher  # the costs are the same
