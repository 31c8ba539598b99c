"""Rank-DETR with DDQ's distinct queries, R50; ``k_dense=4`` adds the dense branch."""

from projects.ddq_detr.modeling import (
    DDQRankCriterion,
    DDQRankDETR,
    DDQRankDetrTransformerDecoder,
)

from ....rank_detr.configs.models.rank_detr_r50 import model

model._target_ = DDQRankDETR
model.update(distinct_iou=0.8, k_dense=0, dense_ratio=1.5)
model.transformer.decoder._target_ = DDQRankDetrTransformerDecoder
model.transformer.decoder.update(distinct_iou="${...distinct_iou}", as_released=True)
model.criterion._target_ = DDQRankCriterion
model.criterion.weight_dict.loss_class_dense = 1.0
