"""DAB-Deformable-DETR with five denoising groups."""

from projects.dn_deformable_detr.modeling import (
    DNCriterion,
    DNDeformableDETR,
    DNDeformableDetrTransformer,
    DNDeformableDetrTransformerDecoder,
    DNDeformableDetrTransformerEncoder,
)

from ....dab_deformable_detr.configs.models.dab_deformable_detr_r50 import model

model._target_ = DNDeformableDETR
model.transformer._target_ = DNDeformableDetrTransformer
model.transformer.encoder._target_ = DNDeformableDetrTransformerEncoder
model.transformer.decoder._target_ = DNDeformableDetrTransformerDecoder
model.criterion._target_ = DNCriterion
model.criterion.pop("two_stage_binary_cls")

model.update(denoising_groups=5, label_noise_prob=0.2, box_noise_scale=0.4, with_indicator=True)
