"""Deformable DETR as later methods start from it: two stages with mixed selection, refinement that
looks forward twice, wider feed-forward layers, no dropout."""

from .deformable_detr_r50 import model

model.update(with_box_refine=True, as_two_stage=True, mixed_selection=True)
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.update(feedforward_dim=2048, attn_dropout=0.0, ffn_dropout=0.0)
model.transformer.decoder.look_forward_twice = True
model.criterion.weight_dict.loss_class = 2.0
