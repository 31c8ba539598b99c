# DETR with a small backbone on the sample data: every operator of its training step has a
# deterministic algorithm on CUDA, as deformable attention's gradient has not.
from detrex.config import get_config, get_recipe
from projects.detr.configs.models.detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/sample_data.py")
_small = get_config("common/models/efficientnet_lite0.py").small
model.backbone = _small.backbone
model.backbone.out_indices = [4]
model.in_features, model.in_channels = ["p4"], 320
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.update(num_layers=2, feedforward_dim=256)
