"""A small MS-DETR, trained on the sample data on two CPU cores.

    python projects/ms_detr/train_net.py \
        --config-file projects/ms_detr/configs/ms_detr_efficientnet_lite0_sample_data.py

Needs tools/make_sample_data.py and tools/make_sample_weights.py first. No published figure.
"""

from detrex.config import get_config

from .models.ms_detr_r50 import model

_recipe = get_config("common/recipes/sample_data.py")
dataloader, lr_multiplier = _recipe.dataloader, _recipe.lr_multiplier
optimizer, train = _recipe.optimizer, _recipe.train

train.output_dir = "./output/ms_detr_efficientnet_lite0_sample_data"
dataloader.evaluator.output_dir = train.output_dir

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small)
model.num_queries = 40
