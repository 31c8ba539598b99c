"""A small DDQ-DETR, trained on the sample data on two CPU cores.

    python projects/ddq_detr/train_net.py \
        --config-file projects/ddq_detr/configs/ddq_detr_efficientnet_lite0_sample_data.py

Needs tools/make_sample_data.py and tools/make_sample_weights.py first. No published figure.
"""

from detrex.config import get_config, get_recipe

from .models.ddq_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/sample_data.py")

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small)
model.update(num_queries=40, dn_number=20)
