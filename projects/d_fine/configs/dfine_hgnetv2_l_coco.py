"""D-FINE-L, HGNetv2-B4, 80 epochs.

    python projects/d_fine/train_net.py --num-gpus 4 \
        --config-file projects/d_fine/configs/dfine_hgnetv2_l_coco.py

Published: 54.0 AP (README of D-FINE); 32 images an iteration on 4 GPUs.
"""

from detrex.config import get_recipe

from .models.dfine_hgnetv2 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/d_fine.py")

train.init_checkpoint = "/path/to/hgnetv2_b4.pth"
