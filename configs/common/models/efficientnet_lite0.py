# What makes a multi-scale detector small enough for two CPU cores: EfficientNet-Lite0 at strides 8
# to 32, one encoder and three decoder layers. It is merged into a model whose own backbone and
# neck.input_shapes are set to None first.
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from detrex.checkpoint.efficientnet_lite0 import PIXEL_MEAN, PIXEL_STD
from detrex.modeling.backbone import TimmBackbone

small = dict(
    backbone=L(TimmBackbone)(
        model_name="efficientnet_lite0",
        out_indices=(2, 3, 4),
        frozen_prefixes=["conv_stem", "bn1", "blocks.0", "blocks.1"],
        frozen_norm=True,
    ),
    neck=dict(
        in_features=["p2", "p3", "p4"],
        input_shapes={
            "p2": ShapeSpec(channels=40),
            "p3": ShapeSpec(channels=112),
            "p4": ShapeSpec(channels=320),
        },
        num_outs=3,
    ),
    # These weights were trained with pixels in [-1, 1].
    pixel_mean=[PIXEL_MEAN] * 3,
    pixel_std=[PIXEL_STD] * 3,
    transformer=dict(
        num_feature_levels=3,
        encoder=dict(num_layers=1, feedforward_dim=512),
        decoder=dict(num_layers=3, feedforward_dim=512),
    ),
    select_box_nums_for_evaluation=100,
)

# The same for a hybrid encoder's model (RT-DETR, D-FINE).
small_hybrid = dict(
    **{key: small[key] for key in ("backbone", "pixel_mean", "pixel_std")},
    neck=dict(
        in_features=small["neck"]["in_features"],
        input_shapes=small["neck"]["input_shapes"],
        embed_dim=128,
        feedforward_dim=512,
        expansion=0.5,
        norm="BN",
    ),
    transformer=dict(decoder=small["transformer"]["decoder"]),
    num_queries=40,
    dn_number=20,
    train_sizes=[],
    select_box_nums_for_evaluation=100,
)
