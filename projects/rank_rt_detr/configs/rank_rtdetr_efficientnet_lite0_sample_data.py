"""A small Rank-DETR on RT-DETR, trained on the sample data on two CPU cores.

    python projects/rank_rt_detr/train_net.py \
        --config-file projects/rank_rt_detr/configs/rank_rtdetr_efficientnet_lite0_sample_data.py

Needs tools/make_sample_data.py and tools/make_sample_weights.py first. No published figure.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from detrex.config import get_config, get_recipe

from .models.rank_rtdetr_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/sample_data.py")

_square = [L(T.Resize)(shape=[256, 256])]
dataloader.train.mapper.augmentation = _square
dataloader.test.mapper.augmentation = _square

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small_hybrid)
