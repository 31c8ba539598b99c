"""Stable-DINO, R50, four levels."""

from projects.stabledino.modeling import (
    DINO,
    StableDINOCriterion,
    StableDINOHungarianMatcher,
    StableDINOTransformerEncoder,
)

from ....dino.configs.models.dino_r50 import model

model._target_ = DINO
model.update(gdn_k=2, neg_step_type="none")
model.transformer.encoder._target_ = StableDINOTransformerEncoder
model.transformer.encoder.multi_level_fusion = "dense-fusion"
model.criterion._target_ = StableDINOCriterion
model.criterion.update(use_ce_loss_type="stable-dino", ta_alpha=0.0, ta_beta=2.0)
model.criterion.weight_dict.update(
    loss_class=6.0, loss_class_dn=1, loss_bbox_dn=5.0, loss_giou_dn=2.0
)
model.criterion.matcher._target_ = StableDINOHungarianMatcher
# as_released: the published figures were trained with the released code's cost.
model.criterion.matcher.update(cec_beta=0.5, as_released=True)
