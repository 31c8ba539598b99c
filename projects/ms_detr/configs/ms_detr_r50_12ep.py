"""MS-DETR on two-stage Deformable DETR, R50, 300 queries, 12 epochs.

    python projects/ms_detr/train_net.py --num-gpus 8 \
        --config-file projects/ms_detr/configs/ms_detr_r50_12ep.py

No published figure that is known to be this model's; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .models.ms_detr_r50 import model

_recipe = get_config("common/recipes/coco_12ep.py")
dataloader, lr_multiplier, train = _recipe.dataloader, _recipe.lr_multiplier, _recipe.train
optimizer = get_config("common/optim.py").AdamW_deformable

train.output_dir = "./output/ms_detr_r50_12ep"
dataloader.evaluator.output_dir = train.output_dir
