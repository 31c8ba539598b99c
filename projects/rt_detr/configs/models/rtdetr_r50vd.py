"""RT-DETR, ResNet-50-vd, three levels."""

from detectron2.config import LazyCall as L

from detrex.config import get_config
from projects.rt_detr.modeling import (
    RTDETR,
    RTDETRCriterion,
    RTDETRTransformer,
    RTDETRTransformerDecoder,
)

_r50 = get_config("common/models/resnet_vd.py").r50
model = L(RTDETR)(
    backbone=_r50.backbone,
    neck=_r50.neck,
    transformer=L(RTDETRTransformer)(
        decoder=L(RTDETRTransformerDecoder)(
            embed_dim=256,
            num_heads=8,
            feedforward_dim=1024,
            attn_dropout=0.0,
            ffn_dropout=0.0,
            num_layers=6,
            num_feature_levels=3,
        ),
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=300,
    dn_number=100,
    label_noise_ratio=0.5,
    box_noise_scale=1.0,
    # Upstream draws 640 three times as often as any other side.
    train_sizes=[*range(480, 640, 32), 640, 640, 640, *range(672, 801, 32)],
    aux_loss=True,
    select_box_nums_for_evaluation=300,
    # Pixels in [0, 1], not normalised further.
    pixel_mean=[0.0, 0.0, 0.0],
    pixel_std=[255.0, 255.0, 255.0],
    criterion=get_config("common/models/focal_criterion.py").criterion,
)
model.criterion._target_ = RTDETRCriterion
# Varifocal loss with the IoU as target; negatives weigh 1 - alpha = 0.75, without gradient.
model.criterion.loss_class_type = "varifocal_detached_loss"
