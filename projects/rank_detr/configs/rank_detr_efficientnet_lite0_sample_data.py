"""A small Rank-DETR with all its parts, trained on the sample data on two CPU cores (`make demo`).

python tools/make_sample_data.py
python tools/make_sample_weights.py
python projects/rank_detr/train_net.py --config-file projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py
"""

from detrex.config import get_recipe

from .models.rank_detr_efficientnet_lite0 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/sample_data.py")
train.output_dir = "./output/demo"
