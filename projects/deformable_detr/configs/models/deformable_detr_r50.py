from detectron2.config import LazyCall as L

from detrex.config import get_config
from projects.deformable_detr.modeling import (
    DeformableDETR,
    DeformableDetrTransformer,
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerEncoder,
)

_shared = get_config("common/models/multi_scale.py")
_layers = dict(
    embed_dim=256,
    num_heads=8,
    feedforward_dim=1024,
    attn_dropout=0.1,
    ffn_dropout=0.1,
    num_layers=6,
    num_feature_levels="${..num_feature_levels}",
)

model = L(DeformableDETR)(
    **_shared.r50,
    position_embedding=_shared.position_embedding,
    transformer=L(DeformableDetrTransformer)(
        encoder=L(DeformableDetrTransformerEncoder)(**_layers, post_norm=False),
        decoder=L(DeformableDetrTransformerDecoder)(**_layers, return_intermediate=True),
        as_two_stage="${..as_two_stage}",
        num_feature_levels=4,
        two_stage_num_proposals="${..num_queries}",
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=300,
    aux_loss=True,
    with_box_refine=False,
    as_two_stage=False,
    criterion=get_config("common/models/focal_criterion.py").criterion,
    pixel_mean=[123.675, 116.280, 103.530],
    pixel_std=[58.395, 57.120, 57.375],
    select_box_nums_for_evaluation=300,
    device="cuda",
)
