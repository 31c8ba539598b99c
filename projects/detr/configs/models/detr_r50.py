from detectron2.config import LazyCall as L

from detrex.config import get_config
from detrex.modeling.criterion import SetCriterion
from detrex.modeling.matcher import HungarianMatcher
from projects.detr.modeling import (
    DETR,
    DetrTransformer,
    DetrTransformerDecoder,
    DetrTransformerEncoder,
)

_shared = get_config("common/models/single_scale.py")
_layers = dict(_shared.layers, attn_dropout=0.1, ffn_dropout=0.1)

model = L(DETR)(
    **_shared.r50,
    position_embedding=_shared.position_embedding,
    transformer=L(DetrTransformer)(
        encoder=L(DetrTransformerEncoder)(**_layers, post_norm=False),
        decoder=L(DetrTransformerDecoder)(**_layers, post_norm=True, return_intermediate=True),
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=100,
    criterion=L(SetCriterion)(
        num_classes="${..num_classes}",
        matcher=L(HungarianMatcher)(
            cost_class=1, cost_bbox=5.0, cost_giou=2.0, cost_class_type="ce_cost"
        ),
        weight_dict={"loss_class": 1, "loss_bbox": 5.0, "loss_giou": 2.0},
        loss_class_type="ce_loss",
        eos_coef=0.1,
    ),
    aux_loss=True,
    device="cuda",
)
