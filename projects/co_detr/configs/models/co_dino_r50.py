"""DINO with quality focal loss and auxiliary heads, R50, four levels."""

from projects.co_detr.modeling import CoDINO

from ....dino.configs.models.dino_r50 import model
from .auxiliary_heads import auxiliary

model._target_ = CoDINO
model.position_embedding.update(temperature=20, offset=0.0)
model.criterion.loss_class_type = "quality_focal_loss"
model.auxiliary = auxiliary
