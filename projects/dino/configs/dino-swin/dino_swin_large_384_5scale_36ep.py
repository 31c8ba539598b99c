"""DINO, Swin-L (384, ImageNet-22k), five levels, 36 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-swin/dino_swin_large_384_5scale_36ep.py

Published: 58.5 AP (detrex model zoo); 16 images an iteration, 270,000
iterations.
"""

from detrex.config import get_config

from .dino_swin_large_384_5scale_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_36ep
train.max_iter = 270000
