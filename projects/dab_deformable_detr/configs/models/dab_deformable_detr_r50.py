"""Deformable DETR with boxes as queries, wider feed-forward layers and no dropout."""

from projects.dab_deformable_detr.modeling import (
    DabDeformableDETR,
    DabDeformableDetrTransformer,
    DabDeformableDetrTransformerDecoder,
    DabDeformableDetrTransformerEncoder,
    TwoStageCriterion,
)

from ....deformable_detr.configs.models.deformable_detr_r50 import model

model._target_ = DabDeformableDETR
model.pop("with_box_refine")
model.transformer._target_ = DabDeformableDetrTransformer
model.transformer.encoder._target_ = DabDeformableDetrTransformerEncoder
model.transformer.decoder._target_ = DabDeformableDetrTransformerDecoder
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.update(feedforward_dim=2048, attn_dropout=0.0, ffn_dropout=0.0)
model.criterion._target_ = TwoStageCriterion
model.criterion.two_stage_binary_cls = False
