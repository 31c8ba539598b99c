"""ResNet-vd backbones, each with its hybrid encoder, of the real-time models."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import ResNet

from projects.rt_detr.modeling import DeepStem, HybridEncoder, make_vd_stages


def _resnet(depth, norm="FrozenBN", freeze_at=1, **neck):
    widest = 2048 if depth >= 50 else 512
    shapes = {f"res{i}": ShapeSpec(channels=widest >> (5 - i)) for i in (3, 4, 5)}
    backbone = L(ResNet)(
        stem=L(DeepStem)(norm=norm),
        stages=L(make_vd_stages)(depth=depth, norm=norm),
        out_features=list(shapes),
        freeze_at=freeze_at,
    )
    neck = L(HybridEncoder)(input_shapes=shapes, in_features=list(shapes), norm="SyncBN", **neck)
    return dict(backbone=backbone, neck=neck)


# The small backbones train all their layers, norms included. SyncBN needs GPUs where there are
# several processes, and is "BN" where there is one.
r18 = _resnet(18, norm="SyncBN", freeze_at=0, expansion=0.5)
r34 = _resnet(34, norm="SyncBN", freeze_at=0, expansion=0.5)
r50_m = _resnet(50, expansion=0.5)
r50 = _resnet(50)
r101 = _resnet(101, embed_dim=384, feedforward_dim=2048)
