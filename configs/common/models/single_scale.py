"""Backbones, layers and criterion of the models that read one feature level."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import SwinTransformer

from detrex.config import get_config
from detrex.layers import PositionEmbeddingSine
from detrex.modeling.backbone import BasicStem, ResNet, TorchvisionResNet, make_stage


def _input(backbone, name="res5", channels=2048):
    return dict(backbone=backbone, in_features=[name], in_channels=channels)


def _resnet(depth, dilation=1):
    backbone = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(make_stage)(
            depth=depth, stride_in_1x1=False, norm="FrozenBN", res5_dilation=dilation
        ),
        out_features=["res5"],
        freeze_at=1,
    )
    return _input(backbone)


def _torchvision(name, dilation):
    backbone = L(TorchvisionResNet)(
        name=name, train_backbone=True, return_layers={"layer4": "res5"}, dilation=dilation
    )
    return _input(backbone)


def _swin(embed_dim, depths, num_heads, drop_path_rate):
    backbone = L(SwinTransformer)(
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        drop_path_rate=drop_path_rate,
        out_indices=(3,),
    )
    return _input(backbone, "p3", embed_dim * 8)


r50 = _resnet(50)
r101 = _resnet(101)
r50_dilated = _resnet(50, dilation=2)
r101_dilated = _resnet(101, dilation=2)
r50_dc5 = _torchvision("resnet50", dilation=True)
r101_dc5 = _torchvision("resnet101", dilation=True)
swin_tiny = _swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 0.1)
swin_base = _swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 0.4)

position_embedding = L(PositionEmbeddingSine)(num_pos_feats=128, temperature=10000, normalize=True)

layers = dict(embed_dim=256, num_heads=8, feedforward_dim=2048, num_layers=6)

focal_criterion = get_config("common/models/focal_criterion.py").criterion
