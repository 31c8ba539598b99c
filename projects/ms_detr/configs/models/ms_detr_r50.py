"""Two-stage Deformable DETR with mixed supervision, R50."""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import OneToManyMatcher
from projects.ms_detr.modeling import MSDETR, MixedDecoder

from ....deformable_detr.configs.models.deformable_detr_plus_r50 import model

model._target_ = MSDETR
model.update(k_one2many=6, lambda_one2many=1.0)
model.transformer.decoder._target_ = MixedDecoder
model.criterion.one_to_many = L(OneToManyMatcher)(
    k="${...k_one2many}", iou_weight=0.7, threshold=0.4, keep_best=False
)
