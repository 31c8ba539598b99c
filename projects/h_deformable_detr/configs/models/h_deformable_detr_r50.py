"""Deformable DETR with wider feed-forward layers, no dropout, and the one-to-many branch."""

from projects.h_deformable_detr.modeling import (
    HDeformableDETR,
    HDeformableDetrTransformer,
    HDeformableDetrTransformerDecoder,
)

from ....deformable_detr.configs.models.deformable_detr_r50 import model

model._target_ = HDeformableDETR
model.pop("num_queries")
model.update(
    num_queries_one2one=300,
    num_queries_one2many=1500,
    mixed_selection=True,
    k_one2many=6,
    lambda_one2many=1.0,
)
model.criterion.weight_dict.loss_class = 2.0

model.transformer._target_ = HDeformableDetrTransformer
model.transformer.update(two_stage_num_proposals=1800, mixed_selection=True)

model.transformer.decoder._target_ = HDeformableDetrTransformerDecoder
model.transformer.decoder.look_forward_twice = True
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.update(feedforward_dim=2048, attn_dropout=0.0, ffn_dropout=0.0, use_checkpoint=False)
