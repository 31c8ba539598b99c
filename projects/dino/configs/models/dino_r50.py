"""DINO, R50, four levels."""

from projects.dino.modeling import (
    DINO,
    DINOCriterion,
    DINOTransformer,
    DINOTransformerDecoder,
    DINOTransformerEncoder,
)

from ....dab_deformable_detr.configs.models.dab_deformable_detr_r50 import model

model._target_ = DINO
model.num_queries = 900
model.update(dn_number=100, label_noise_ratio=0.5, box_noise_scale=1.0)
model.transformer._target_ = DINOTransformer
model.transformer.pop("as_two_stage")
model.pop("as_two_stage")
model.transformer.encoder._target_ = DINOTransformerEncoder
model.transformer.decoder._target_ = DINOTransformerDecoder
for _stack in (model.transformer.encoder, model.transformer.decoder):
    _stack.use_checkpoint = False
model.criterion._target_ = DINOCriterion
