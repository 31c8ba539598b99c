from projects.group_detr.modeling import (
    GroupDETR,
    GroupDetrTransformer,
    GroupDetrTransformerDecoder,
    GroupDetrTransformerEncoder,
    GroupHungarianMatcher,
    GroupSetCriterion,
)

from ....conditional_detr.configs.models.conditional_detr_r50 import model

model._target_ = GroupDETR
model.group_nums = 11
model.transformer._target_ = GroupDetrTransformer
model.transformer.encoder._target_ = GroupDetrTransformerEncoder
model.transformer.decoder._target_ = GroupDetrTransformerDecoder
model.transformer.decoder.group_nums = "${...group_nums}"

model.criterion._target_ = GroupSetCriterion
model.criterion.group_nums = "${..group_nums}"
model.criterion.pop("loss_class_type")  # always focal
model.criterion.matcher._target_ = GroupHungarianMatcher
