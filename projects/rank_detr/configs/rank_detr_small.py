"""A small Rank-DETR for one GPU, a laptop or a CPU: EfficientNet-Lite0, images of 480 pixels.

    python tools/make_sample_weights.py
    python projects/rank_detr/train_net.py \
        --config-file projects/rank_detr/configs/rank_detr_small.py

For data of your own: `python tools/check_dataset.py DATA --model small`. No published figure.
"""

from detrex.config import get_recipe

from .models.rank_detr_efficientnet_lite0 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/small.py")
train.init_checkpoint = "output/efficientnet_lite0.pth"

model.num_queries_one2one = 100
model.num_queries_one2many = 300
model.transformer.two_stage_num_proposals = 400
