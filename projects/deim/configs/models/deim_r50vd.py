"""RT-DETRv2, ResNet-50-vd, as DEIM trains it: matchability-aware loss, norms that learn."""

from projects.deim.modeling import DEIM, DEIMTransformerDecoder

from ....rt_detr.configs.models.rtdetr_r50vd import model

model._target_ = DEIM
model.transformer.decoder._target_ = DEIMTransformerDecoder
model.train_sizes_until = 58 / 60

# Target IoU^1.5 of a matched query with weight 1; the other scores weigh p^1.5.
model.criterion.update(loss_class_type="mal_loss", gamma=1.5)

model.backbone.freeze_at = 0
model.backbone.stem.norm = model.backbone.stages.norm = "SyncBN"
