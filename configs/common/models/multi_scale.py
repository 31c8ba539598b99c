"""Backbones with their necks, and the position embedding, of the multi-scale deformable models."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BasicStem, ResNet, SwinTransformer
from torch import nn

from detrex.layers import PositionEmbeddingSine
from detrex.modeling.neck import ChannelMapper


def _with_neck(backbone, **channels):
    neck = L(ChannelMapper)(
        input_shapes={name: ShapeSpec(channels=width) for name, width in channels.items()},
        in_features=list(channels),
        out_channels=256,
        num_outs=4,
        kernel_size=1,
        norm_layer=L(nn.GroupNorm)(num_groups=32, num_channels=256),
    )
    return dict(backbone=backbone, neck=neck)


def _resnet(depth):
    backbone = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=depth, stride_in_1x1=False, norm="FrozenBN"),
        out_features=["res3", "res4", "res5"],
        freeze_at=1,
    )
    return _with_neck(backbone, res3=512, res4=1024, res5=2048)


def _swin(embed_dim, depths, num_heads):
    backbone = L(SwinTransformer)(
        pretrain_img_size=224,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        drop_path_rate=0.2,
        window_size=7,
        out_indices=(1, 2, 3),
    )
    return _with_neck(backbone, p1=embed_dim * 2, p2=embed_dim * 4, p3=embed_dim * 8)


r50 = _resnet(50)
r101 = _resnet(101)
swin_tiny = _swin(96, (2, 2, 6, 2), (3, 6, 12, 24))
swin_large = _swin(192, (2, 2, 18, 2), (6, 12, 24, 48))

position_embedding = L(PositionEmbeddingSine)(
    num_pos_feats=128, temperature=10000, normalize=True, offset=-0.5
)
