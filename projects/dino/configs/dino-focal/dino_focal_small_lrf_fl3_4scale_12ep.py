"""DINO, FocalNet-S (ImageNet-1k, three focal levels), four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-focal/dino_focal_small_lrf_fl3_4scale_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.init_checkpoint = "/path/to/focalnet_small_lrf.pth"

model.update(get_config("common/models/multi_scale.py").focalnet_small)
