"""DINO, FocalNet-L (384, ImageNet-22k, four focal levels), four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-focal/dino_focalnet_large_lrf_384_fl4_4scale_12ep.py

Published: 58.0 AP (detrex model zoo); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.init_checkpoint = "/path/to/focalnet_large_lrf_384_fl4.pth"

model.update(get_config("common/models/multi_scale.py").focalnet_large_fl4)
