from detectron2.config import LazyCall as L
from torch import nn

from projects.dab_detr.modeling import (
    DABDETR,
    DabDetrTransformer,
    DabDetrTransformerDecoder,
    DabDetrTransformerEncoder,
)

from ....conditional_detr.configs.models.conditional_detr_r50 import model

model._target_ = DABDETR
model.freeze_anchor_box_centers = True
model.position_embedding.temperature = 20
model.criterion.weight_dict.loss_class = 1.0

model.transformer._target_ = DabDetrTransformer
model.transformer.num_patterns = 0
model.transformer.encoder._target_ = DabDetrTransformerEncoder
model.transformer.decoder._target_ = DabDetrTransformerDecoder
model.transformer.decoder.modulate_hw_attn = True
for _layers in (model.transformer.encoder, model.transformer.decoder):
    _layers.update(attn_dropout=0.0, ffn_dropout=0.0, activation=L(nn.PReLU)())
