"""Rank-DETR's parts on D-FINE-L, 80 epochs.

    python projects/rank_d_fine/train_net.py --num-gpus 4 \
        --config-file projects/rank_d_fine/configs/rank_dfine_hgnetv2_l_coco.py

New here: no published figure (D-FINE-L itself: 54.0 AP).
"""

from detrex.config import get_recipe

from .models.rank_dfine_hgnetv2 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/d_fine.py")

train.init_checkpoint = "/path/to/hgnetv2_b4.pth"
