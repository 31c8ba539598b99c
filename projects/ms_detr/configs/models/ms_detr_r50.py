"""Two-stage Deformable DETR with mixed supervision, R50."""

from projects.ms_detr.modeling import MSDETR, MixedCriterion, MixedDecoder

from ....deformable_detr.configs.models.deformable_detr_plus_r50 import model

model._target_ = MSDETR
model.update(k_one2many=6, lambda_one2many=1.0)
model.transformer.decoder._target_ = MixedDecoder
model.criterion._target_ = MixedCriterion
model.criterion.update(score_weight=0.3, threshold=0.4)
