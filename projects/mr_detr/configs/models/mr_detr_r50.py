"""Mr. DETR on two-stage Deformable DETR, R50, four levels, 900 queries."""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import HungarianMatcher, OneToManyMatcher
from projects.mr_detr.modeling import MrDETR, MrDETRCriterion, RoutedDecoder

from ....deformable_detr.configs.models.deformable_detr_plus_r50 import model

model._target_ = MrDETR
model.update(num_queries=900, dn_number=0, match_anchors=True, mix_scores=True)
for _name in ("with_box_refine", "as_two_stage", "mixed_selection"):
    model.pop(_name)
model.transformer.as_two_stage = True
model.transformer.decoder._target_ = RoutedDecoder
model.criterion._target_ = MrDETRCriterion
model.criterion.one_to_many = L(OneToManyMatcher)(
    k=6, iou_weight=0.7, threshold=0.4, as_released=True, most_positives=225
)
model.criterion.encoder_matcher = L(HungarianMatcher)(cost_class=0, cost_bbox=5, cost_giou=2)
model.criterion.weight_dict.update(loss_class_enc=6.0, loss_bbox_enc=15.0, loss_giou_enc=6.0)
