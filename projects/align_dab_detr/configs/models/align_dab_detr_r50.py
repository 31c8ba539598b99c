from projects.align_dab_detr.modeling import AlignDABDETR, ManyToOneCriterion, MixedMatcher

from ....dab_detr.configs.models.dab_detr_r50 import model

model._target_ = AlignDABDETR

model.criterion._target_ = ManyToOneCriterion
model.criterion.pop("loss_class_type")  # always IA-BCE
model.criterion.matcher._target_ = MixedMatcher
# Queries per target: the first number is for an encoder's proposals, which DAB-DETR does not make.
model.criterion.match_number = [1, 2, 2, 2, 2, 2, 1]
model.criterion.tau = 1.5
