"""Backbones with their necks, and the position embedding, of the multi-scale deformable models."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet, SwinTransformer, ViT

from detrex.layers import PositionEmbeddingSine
from detrex.modeling.backbone import ConvNeXt, FocalNet, SimpleFeaturePyramid
from detrex.modeling.neck import with_channel_mapper


def _resnet(depth, finest=3):
    widest = 2048 if depth >= 50 else 512
    channels = {f"res{i}": widest >> (5 - i) for i in range(finest, 6)}
    bottleneck = dict(stride_in_1x1=False) if depth >= 50 else {}
    backbone = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=depth, norm="FrozenBN", **bottleneck),
        out_features=list(channels),
        freeze_at=1,
    )
    return with_channel_mapper(backbone, channels)


def _swin(embed_dim, depths, num_heads, pretrain=224, window=7, finest=1):
    indices = tuple(range(finest, 4))
    backbone = L(SwinTransformer)(
        pretrain_img_size=pretrain,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=num_heads,
        drop_path_rate=0.2,
        window_size=window,
        out_indices=indices,
    )
    return with_channel_mapper(backbone, {f"p{i}": embed_dim * 2**i for i in indices})


def _convnext(depths, width):
    backbone = L(ConvNeXt)(
        depths=depths,
        dims=tuple(width << i for i in range(4)),
        layer_scale_init_value=1.0,
        out_indices=(1, 2, 3),
    )
    return with_channel_mapper(backbone, {f"p{i}": width << i for i in (1, 2, 3)})


def _focalnet(width, depths, finest=1, **options):
    indices = tuple(range(finest, 4))
    backbone = L(FocalNet)(embed_dim=width, depths=depths, out_indices=indices, **options)
    return with_channel_mapper(backbone, {f"p{i}": width << i for i in indices})


def _vit(embed_dim, depth, num_heads, drop_path_rate):
    """ViTDet (Li et al., ECCV 2022): windows of 14 tokens, four blocks with global attention."""
    every = depth // 4
    net = L(ViT)(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        drop_path_rate=drop_path_rate,
        window_size=14,
        window_block_indexes=[i for i in range(depth) if (i + 1) % every],
        use_rel_pos=True,
    )
    pyramid = L(SimpleFeaturePyramid)(
        net=net, in_feature="last_feat", out_channels=256, scale_factors=(2.0, 1.0, 0.5)
    )
    return with_channel_mapper(pyramid, dict(p3=256, p4=256, p5=256))


r18 = _resnet(18)
r34 = _resnet(34)
r50 = _resnet(50)
r50_5scale = _resnet(50, finest=2)
r101 = _resnet(101)
swin_tiny = _swin(96, (2, 2, 6, 2), (3, 6, 12, 24))
swin_small = _swin(96, (2, 2, 18, 2), (3, 6, 12, 24))
swin_base_384 = _swin(128, (2, 2, 18, 2), (4, 8, 16, 32), pretrain=384, window=12)
_large = (192, (2, 2, 18, 2), (6, 12, 24, 48))
swin_large = _swin(*_large)
swin_large_384 = _swin(*_large, pretrain=384, window=12)
swin_large_384_5scale = _swin(*_large, pretrain=384, window=12, finest=0)
convnext_tiny = _convnext((3, 3, 9, 3), 96)
convnext_small = _convnext((3, 3, 27, 3), 96)
convnext_base = _convnext((3, 3, 27, 3), 128)
convnext_large = _convnext((3, 3, 27, 3), 192)
focalnet_tiny = _focalnet(96, (2, 2, 6, 2), drop_path_rate=0.1)
focalnet_small = _focalnet(96, (2, 2, 18, 2), drop_path_rate=0.1)
focalnet_base = _focalnet(128, (2, 2, 18, 2), drop_path_rate=0.1)
_large = (192, (2, 2, 18, 2))
_wide = dict(use_conv_embed=True, use_postln=True, use_layerscale=True)
_fl3 = dict(focal_levels=(3,) * 4, focal_windows=(5,) * 4)
_fl4 = dict(focal_levels=(4,) * 4, focal_windows=(3,) * 4)
focalnet_large_fl3 = _focalnet(*_large, **_wide, **_fl3)
focalnet_large_fl4 = _focalnet(*_large, **_wide, **_fl4)
focalnet_large_fl4_5scale = _focalnet(*_large, finest=0, **_wide, **_fl4)
vit_base = _vit(768, 12, 12, drop_path_rate=0.1)
vit_large = _vit(1024, 24, 16, drop_path_rate=0.4)

position_embedding = L(PositionEmbeddingSine)(
    num_pos_feats=128, temperature=10000, normalize=True, offset=-0.5
)
