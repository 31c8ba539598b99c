"""DINO with IoU-aware BCE, two queries per target in all layers but the last, and prime-sample
weighting."""

from projects.align_detr.modeling import (
    AlignDETR,
    AlignDETRCriterion,
    MixedMatcher,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)

from ....dino.configs.models.dino_r50 import model

model._target_ = AlignDETR
model.prior_init = 0.01
model.transformer._target_ = Transformer
model.transformer.encoder._target_ = TransformerEncoder
model.transformer.decoder._target_ = TransformerDecoder

model.criterion._target_ = AlignDETRCriterion
model.criterion.pop("loss_class_type")
# Queries per target: the encoder's proposals, then the six decoder layers.
model.criterion.update(match_num=[2, 2, 2, 2, 2, 2, 1], alpha=0.25, gamma=2.0, tau=1.5)
model.criterion.matcher._target_ = MixedMatcher
