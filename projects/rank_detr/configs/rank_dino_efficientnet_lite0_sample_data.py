"""A small Rank-DETR on DINO, trained on the sample data on two CPU cores.

    python projects/rank_detr/train_net.py \
        --config-file projects/rank_detr/configs/rank_dino_efficientnet_lite0_sample_data.py

Needs tools/make_sample_data.py and tools/make_sample_weights.py first. No published figure.
"""

from detrex.config import get_config

from .models.rank_dino_r50 import model
from .rank_detr_efficientnet_lite0_sample_data import dataloader, lr_multiplier, optimizer, train

train.output_dir = "./output/rank_dino_efficientnet_lite0_sample_data"
dataloader.evaluator.output_dir = train.output_dir

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small)
model.update(num_queries=40, dn_number=20)
model.criterion.matcher.matcher_change_iter = None
