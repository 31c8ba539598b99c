"""Align-DETR on DAB-DETR, R50, 50 epochs.

    python projects/align_dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/align_dab_detr/configs/align_dab_detr_r50_50ep.py

Published: 46.0 AP (paper); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config

from .models.align_dab_detr_r50 import model

_recipe = get_config("common/recipes/single_scale_50ep.py")
dataloader, lr_multiplier = _recipe.dataloader, _recipe.lr_multiplier
optimizer, train = _recipe.optimizer, _recipe.train

train.output_dir = "./output/align_dab_detr_r50_50ep"
dataloader.evaluator.output_dir = train.output_dir
