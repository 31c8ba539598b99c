"""DINO, ConvNeXt-L (384, ImageNet-22k and 1k), four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-convnext/dino_convnext_large_384_4scale_12ep.py

Published: 55.5 AP (detrex model zoo); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.init_checkpoint = "/path/to/convnext_large_22k_1k_384.pth"

model.update(get_config("common/models/multi_scale.py").convnext_large)
