"""DAC-DETR with IoU-aware scores, R50, four levels, 900 queries."""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import OneToManyMatcher
from projects.dac_detr.modeling import DACDETR, CrossDecoder, DACCriterion

from ....deformable_detr.configs.models.deformable_detr_plus_r50 import model

model._target_ = DACDETR
model.update(num_queries=900, copies=3, nms_iou=0.8)
model.update(dn_number=100, label_noise_ratio=0.5, box_noise_scale=0.4)
model.select_box_nums_for_evaluation = 300
for _name in ("with_box_refine", "as_two_stage", "mixed_selection"):
    model.pop(_name)
model.transformer.as_two_stage = True
model.transformer.decoder._target_ = CrossDecoder
model.criterion._target_ = DACCriterion
model.criterion.pop("loss_class_type")
model.criterion.update(match_num=[1] * 7, tau=1.5)
model.criterion.one_to_many = L(OneToManyMatcher)(
    k=6, iou_weight=0.7, threshold=0.4, as_released=True, most_positives=75
)
model.criterion.weight_dict.update(loss_class=1.0, loss_class_enc=2.0)
