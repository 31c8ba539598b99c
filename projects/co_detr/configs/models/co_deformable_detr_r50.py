"""Two-stage Deformable DETR with mixed selection, looking forward twice, and its auxiliary heads."""

from projects.co_detr.modeling import CoDeformableDETR

from ....deformable_detr.configs.models.deformable_detr_r50 import model
from .auxiliary_heads import auxiliary

model._target_ = CoDeformableDETR
model.update(with_box_refine=True, as_two_stage=True, mixed_selection=True)
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.update(feedforward_dim=2048, attn_dropout=0.0, ffn_dropout=0.0)
model.transformer.decoder.look_forward_twice = True
model.criterion.weight_dict.loss_class = 2.0
model.auxiliary = auxiliary
model.auxiliary.with_position = True
