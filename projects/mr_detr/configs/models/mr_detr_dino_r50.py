"""Mr. DETR with denoising queries on every route, R50, four levels, 900 queries."""

from .mr_detr_r50 import model

model.update(dn_number=100, label_noise_ratio=0.5, box_noise_scale=0.4, route_weight=1 / 3)
model.match_anchors = False
model.criterion.pop("encoder_matcher")
model.criterion.one_to_many.iou_weight = 0.8
for _name in ("loss_class_enc", "loss_bbox_enc", "loss_giou_enc"):
    model.criterion.weight_dict.pop(_name)
