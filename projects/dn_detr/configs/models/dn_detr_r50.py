from projects.dn_detr.modeling import (
    DNDETR,
    DNCriterion,
    DNDetrTransformer,
    DNDetrTransformerDecoder,
    DNDetrTransformerEncoder,
)

from ....dab_detr.configs.models.dab_detr_r50 import model

model._target_ = DNDETR
model.update(
    denoising_groups=5,
    label_noise_prob=0.2,
    box_noise_scale=0.4,
    with_indicator=True,
    freeze_anchor_box_centers=False,
)
model.transformer._target_ = DNDetrTransformer
model.transformer.encoder._target_ = DNDetrTransformerEncoder
model.transformer.decoder._target_ = DNDetrTransformerDecoder
model.criterion._target_ = DNCriterion
