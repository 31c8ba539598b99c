"""RF-DETR nano: LW-DETR's decoder with two layers on DINOv2, images of 384 pixels."""

from detrex.config import get_config
from projects.rf_detr.modeling import RFDETR

from ....lw_detr.configs.models.lw_detr import model

model._target_ = RFDETR
model.update(get_config("common/models/windowed_vit.py").rf)
model.train_sizes = [*range(224, 545, 32)]
model.transformer.decoder.num_layers = 2
