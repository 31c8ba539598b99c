"""DAB-DETR, R50, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_r50_50ep.py

Published: 43.3 AP (detrex model zoo; paper: 42.2); 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config

from .models.dab_detr_r50 import model

_recipe = get_config("common/recipes/single_scale_50ep.py")
dataloader, lr_multiplier = _recipe.dataloader, _recipe.lr_multiplier
optimizer, train = _recipe.optimizer, _recipe.train

train.output_dir = "./output/dab_detr_r50_50ep"
dataloader.evaluator.output_dir = train.output_dir
