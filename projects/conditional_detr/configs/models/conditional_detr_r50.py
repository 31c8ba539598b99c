from detectron2.config import LazyCall as L
from torch import nn

from detrex.config import get_config
from projects.conditional_detr.modeling import (
    ConditionalDETR,
    ConditionalDetrTransformer,
    ConditionalDetrTransformerDecoder,
    ConditionalDetrTransformerEncoder,
)

_shared = get_config("common/models/single_scale.py")
_layers = dict(_shared.layers, attn_dropout=0.1, ffn_dropout=0.1, activation=L(nn.ReLU)())

model = L(ConditionalDETR)(
    **_shared.r50,
    position_embedding=_shared.position_embedding,
    transformer=L(ConditionalDetrTransformer)(
        encoder=L(ConditionalDetrTransformerEncoder)(**_layers, post_norm=False),
        decoder=L(ConditionalDetrTransformerDecoder)(
            **_layers, post_norm=True, return_intermediate=True
        ),
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=300,
    criterion=_shared.focal_criterion,
    aux_loss=True,
    select_box_nums_for_evaluation=300,
    device="cuda",
)
model.criterion.weight_dict.loss_class = 2.0
