"""Two-stage Deformable DETR with auxiliary heads, R50."""

from projects.co_detr.modeling import CoDeformableDETR

from ....deformable_detr.configs.models.deformable_detr_plus_r50 import model
from .auxiliary_heads import auxiliary

model._target_ = CoDeformableDETR
model.auxiliary = auxiliary
model.auxiliary.with_position = True
