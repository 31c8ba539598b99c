"""HGNetv2 backbones of timm, each with its hybrid encoder, of D-FINE's five sizes."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from detrex.modeling.backbone import TimmBackbone
from projects.d_fine.modeling import DFINEHybridEncoder


def _hgnetv2(name, widest, levels=(1, 2, 3), frozen=False, **neck):
    shapes = {f"p{i}": ShapeSpec(channels=widest >> (3 - i)) for i in levels}
    # A small backbone trains all its layers, norms included. SyncBN needs GPUs where there are
    # several processes, and is "BN" where there is one.
    trained = dict(frozen_prefixes=["stem"], frozen_norm=True) if frozen else dict(sync_norm=True)
    backbone = L(TimmBackbone)(model_name=f"hgnetv2_{name}", out_indices=list(levels), **trained)
    neck = L(DFINEHybridEncoder)(
        input_shapes=shapes, in_features=list(shapes), norm="SyncBN", **neck
    )
    return dict(backbone=backbone, neck=neck)


n = _hgnetv2(
    "b0",
    1024,
    levels=(2, 3),
    embed_dim=128,
    feedforward_dim=512,
    expansion=0.34,
    blocks=2,
    out_channels=128,
)
s = _hgnetv2("b0", 1024, expansion=0.5, blocks=1)
m = _hgnetv2("b2", 1536, blocks=2)
l = _hgnetv2("b4", 2048, frozen=True)  # noqa: E741
x = _hgnetv2("b5", 2048, frozen=True, embed_dim=384, feedforward_dim=2048)
