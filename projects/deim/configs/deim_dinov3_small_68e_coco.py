"""DEIM with DINOv3 ViT-S/16 under a spatial adapter and Rank-DETR's late cost, 68 epochs.

    python projects/deim/train_net.py --num-gpus 8 \
        --config-file projects/deim/configs/deim_dinov3_small_68e_coco.py

New here: no published figure. Backbone, widths, data and schedule are those of DEIMv2-L (56.0 AP,
its README), whose decoder is another: boxes as distributions, RMSNorm, SwiGLU. 32 images an
iteration.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from detrex.config import get_recipe
from detrex.data import CopyBlend
from detrex.modeling.backbone import adapter_parts
from detrex.modeling.matcher import HighOrderMatcher
from projects.rt_detr.modeling import HybridEncoder

from .models.deim_r50vd import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/deim.py")

_first, _second = dataloader.train.mapper.windows
_first.update(start=4 / 68, stop=34 / 68, pairs=[*_first.pairs, L(CopyBlend)(p=0.5)])
_second.update(start=34 / 68, stop=60 / 68, pairs=[L(CopyBlend)(p=0.5)])
dataloader.train.total_batch_size = 32

lr_multiplier.update(flat=34 / 68, final=8 / 68)
optimizer.update(lr=5e-4, weight_decay=1.25e-4)
optimizer.params.lr_factors = [dict(names=["backbone.net."], factor=0.025)]
optimizer.params.weight_decay_bias = 0.0

train.max_iter = "68ep"
train.reload_best = 60 / 68
train.init_checkpoint = "/path/to/vit_small_patch16_dinov3.lvd1689m.safetensors"

_width = 224
model.backbone = adapter_parts("vit_small_patch16_dinov3", _width, width=32)["backbone"]
_levels = {name: ShapeSpec(channels=_width) for name in ("p3", "p4", "p5")}
model.neck = L(HybridEncoder)(
    input_shapes=_levels,
    in_features=list(_levels),
    embed_dim=_width,
    feedforward_dim=896,
    out_channels=_width,
    norm="SyncBN",
)
model.transformer.decoder.update(embed_dim=_width, feedforward_dim=1792, num_layers=4)
model.update(embed_dim=_width, train_sizes_until=60 / 68)
# ImageNet's mean and deviation, as DINOv3 was trained with.
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]
model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=50 / 68,
    max_iter="${train.max_iter}",
)
