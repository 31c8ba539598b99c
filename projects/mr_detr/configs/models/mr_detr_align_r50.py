"""Mr. DETR with denoising queries and Align-DETR's class loss in all sets, R50, four levels."""

from detrex.modeling.criterion import ManyToOneCriterion

from .mr_detr_dino_r50 import model

model.criterion._target_ = ManyToOneCriterion
model.criterion.pop("loss_class_type")
model.criterion.update(match_num=[1] * 7, tau=1.5, weighted_boxes=["giou"])
model.criterion.weight_dict.loss_class = 1.0
