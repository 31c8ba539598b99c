"""Co-DINO, R50, five levels, 12 epochs.

    python projects/co_detr/train_net.py --num-gpus 8 \
        --config-file projects/co_detr/configs/co_dino_5scale_r50_1x_coco.py

Published: 52.1 AP (README of Co-DETR), with soft-NMS, which is not applied here; 16 images an
iteration, 90,000 iterations.
"""

from detrex.config import get_config, get_recipe

from .models.co_dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe(
    "common/recipes/coco_12ep.py", output_dir="./output/co_dino_5scale_r50_1x_coco"
)

optimizer.lr = 2e-4

model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
for _head in model.auxiliary.heads:
    _head.strides = [4, 8, 16, 32, 64, 128]
