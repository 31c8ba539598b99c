"""LW-DETR small: one level, three decoder layers."""

from detectron2.config import LazyCall as L

from detrex.config import get_config
from projects.lw_detr.modeling import LWDETR, LWDETRTransformer, LWDETRTransformerDecoder

model = L(LWDETR)(
    **get_config("common/models/windowed_vit.py").lw_small,
    transformer=L(LWDETRTransformer)(
        decoder=L(LWDETRTransformerDecoder)(
            embed_dim=256,
            num_heads=8,
            feedforward_dim=2048,
            attn_dropout=0.0,
            ffn_dropout=0.0,
            num_layers=3,
            num_feature_levels=1,
            num_points=2,
        ),
    ),
    num_classes=80,
    num_queries=300,
    group_nums=13,
    aux_loss=True,
    select_box_nums_for_evaluation=300,
    pixel_mean=[123.675, 116.280, 103.530],
    pixel_std=[58.395, 57.120, 57.375],
    criterion=get_config("common/models/focal_criterion.py").criterion,
)
# Align-DETR's class loss, for the encoder's proposals as well.
model.criterion.update(loss_class_type="ia_bce_loss", set_losses={})
