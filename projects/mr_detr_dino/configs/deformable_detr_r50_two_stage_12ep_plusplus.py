"""Mr. DETR with denoising queries, R50, four levels, 900 queries, 12 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_dino/configs/deformable_detr_r50_two_stage_12ep_plusplus.py

Published: 50.9 AP (README of Mr. DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from ...mr_detr.configs.models.mr_detr_dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
# As released: its train_net.py has this optimizer, whatever the config says.
optimizer = get_config("common/optim.py").AdamW_deformable
