from detectron2.config import LazyCall as L
from torch import nn

from detrex.config import get_config
from projects.dab_detr.modeling import (
    DABDETR,
    DabDetrTransformer,
    DabDetrTransformerDecoder,
    DabDetrTransformerEncoder,
)

_parts = get_config("common/models/single_scale.py")
_layers = dict(_parts.layers, attn_dropout=0.0, ffn_dropout=0.0, activation=L(nn.PReLU)())

model = L(DABDETR)(
    **_parts.r50,
    position_embedding=_parts.position_embedding,
    transformer=L(DabDetrTransformer)(
        encoder=L(DabDetrTransformerEncoder)(**_layers),
        decoder=L(DabDetrTransformerDecoder)(**_layers, modulate_hw_attn=True),
        num_patterns=0,
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=300,
    criterion=_parts.focal_criterion,
    aux_loss=True,
    freeze_anchor_box_centers=True,
    select_box_nums_for_evaluation=300,
    device="cuda",
)
model.position_embedding.temperature = 20
