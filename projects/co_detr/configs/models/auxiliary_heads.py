"""Faster R-CNN and ATSS on the encoder's four levels and a fifth: ``auxiliary``."""

from detectron2.config import LazyCall as L

from projects.co_detr.modeling import ATSSHead, AuxiliaryHeads, FasterRCNNHead

_shape = dict(
    num_classes="${....num_classes}",
    embed_dim="${....embed_dim}",
    strides=[8, 16, 32, 64, 128],
)

auxiliary = L(AuxiliaryHeads)(
    heads=[L(FasterRCNNHead)(**_shape), L(ATSSHead)(**_shape)],
    embed_dim="${..embed_dim}",
    num_decoder_layers="${..transformer.decoder.num_layers}",
    with_position=False,
    lambda_1=1.0,
    lambda_2=2.0,
)
