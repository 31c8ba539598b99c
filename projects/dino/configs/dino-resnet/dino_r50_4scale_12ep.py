"""DINO, R50, four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py

Published: 49.2 AP (detrex model zoo), 49.0 (README of DINO); 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_recipe

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")
