"""DINO with quality focal loss and auxiliary heads, R50, four levels."""

from detectron2.config import LazyCall as L

from projects.co_detr.modeling import AuxiliaryHeads, CoDINO

from ....dino.configs.models.dino_r50 import model

model._target_ = CoDINO
model.position_embedding.update(temperature=20, offset=0.0)
model.criterion.loss_class_type = "quality_focal_loss"
model.auxiliary = L(AuxiliaryHeads)(
    num_classes="${..num_classes}",
    embed_dim="${..embed_dim}",
    strides=[8, 16, 32, 64],
    num_decoder_layers="${..transformer.decoder.num_layers}",
    with_position=False,
)
