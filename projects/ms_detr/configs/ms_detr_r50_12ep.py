"""MS-DETR on two-stage Deformable DETR, R50, 300 queries, 12 epochs.

    python projects/ms_detr/train_net.py --num-gpus 8 \
        --config-file projects/ms_detr/configs/ms_detr_r50_12ep.py

No published figure that is known to be this model's; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.ms_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
optimizer = get_config("common/optim.py").AdamW_deformable
