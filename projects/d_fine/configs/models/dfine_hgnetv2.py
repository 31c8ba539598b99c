"""D-FINE-L: HGNetv2-B4, six decoder layers."""

from detrex.config import get_config
from projects.d_fine.modeling import DFINE, DFINECriterion, DFINETransformerDecoder

from ....rt_detr.configs.models.rtdetr_r50vd import model

model._target_ = DFINE
model.update(get_config("common/models/hgnetv2.py").l)

model.transformer.decoder._target_ = DFINETransformerDecoder
for _key in ("ffn_dropout", "num_feature_levels"):
    del model.transformer.decoder[_key]
model.transformer.decoder.update(
    num_points=[3, 6, 3], reg_max=32, reg_scale=4.0, quality_estimate=True
)

model.criterion._target_ = DFINECriterion
# Fine-grained localisation and its distillation from the last layer.
model.criterion.weight_dict.update(loss_fgl=0.15, loss_ddf=1.5)
