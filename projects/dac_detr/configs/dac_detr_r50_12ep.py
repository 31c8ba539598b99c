"""DAC-DETR with IoU-aware scores, R50, 900 queries, 12 epochs.

    python projects/dac_detr/train_net.py --num-gpus 8 \
        --config-file projects/dac_detr/configs/dac_detr_r50_12ep.py

Published: 50.9 AP (README of DAC-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.dac_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
optimizer = get_config("common/optim.py").AdamW_deformable
