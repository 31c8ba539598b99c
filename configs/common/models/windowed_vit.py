"""ViTs with windows of LW-DETR's five sizes and of RF-DETR, each with its projector."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from detrex.modeling.backbone import WindowedViT
from projects.lw_detr.modeling import Projector


def _vit(name, embed_dim, out_indices, projector, **vit):
    backbone = L(WindowedViT)(model_name=name, out_indices=out_indices, **vit)
    shapes = {f"p{i}": ShapeSpec(channels=embed_dim) for i in out_indices}
    return dict(backbone=backbone, neck=L(Projector)(input_shapes=shapes, **projector))


def _lw(size, embed_dim, depth=10, scales=(1.0,), out_channels=256, drop_path_rate=0.0):
    deep = depth == 10
    return _vit(
        f"vit_{size}_patch16_224",
        embed_dim,
        [2, 4, 5, 9] if deep else [1, 3, 5],
        # SyncBN needs GPUs where there are several processes, and is "BN" where there is one.
        dict(scales=list(scales), out_channels=out_channels, norm="SyncBN"),
        global_indices=[2, 4, 5, 8] if deep else [1, 3, 5],
        num_windows=4,
        final_norm=False,
        antialias=False,
        model_options=dict(
            depth=depth,
            num_heads=12,
            init_values=0.1,
            class_token=False,
            drop_path_rate=drop_path_rate,
        ),
    )


_wide = dict(scales=(2.0, 0.5), out_channels=384, drop_path_rate=0.1)
lw_tiny = _lw("tiny", 192, depth=6)
lw_small = _lw("tiny", 192)
lw_medium = _lw("small", 384)
lw_large = _lw("small", 384, **_wide)
lw_xlarge = _lw("base", 768, **_wide)
# As upstream, the blocks after those that are read attend globally.
rf = _vit(
    "vit_small_patch14_dinov2",
    384,
    [2, 5, 8, 11],
    dict(scales=[1.0], out_channels=256, norm="LN"),
    global_indices=[3, 6, 9],
    num_windows=2,
    model_options=dict(patch_size=16, img_size=384),
)
