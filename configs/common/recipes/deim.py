"""60 epochs of COCO at batch 16 with DEIM's data and schedule (Huang et al., CVPR 2025):
``dataloader, lr_multiplier, optimizer, train``, as deim_r50vd_60e_coco.yml of its code (09d35d5).

RT-DETR's recipe, but augmentation comes in windows: none in the first 4 epochs and the last 2, and
four images in one (Mosaic), then two (MixUp), for half of them until epoch 34. Windows, schedule
and sizes are fractions of the run, so ``train.max_iter`` alone makes it shorter or longer.
"""

from detectron2.config import LazyCall as L
from torchvision.transforms import v2

from detrex.config import get_recipe
from detrex.data import MixUp, Mosaic, Window
from detrex.train.schedules import FlatCosine

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/rt_detr.py")

_mapper = dataloader.train.mapper
# Photometric distortion, zoom out and IoU crop go into the windows; the rest is for every image.
_single, _mapper.transforms = _mapper.transforms[:3], _mapper.transforms[3:]
_of_four = [
    L(Mosaic)(size=320),
    L(v2.RandomAffine)(degrees=10, translate=(0.1, 0.1), scale=(0.5, 1.5), fill=0),
    L(v2.RandomPhotometricDistort)(p=0.5),
]
_mapper.windows = [
    L(Window)(
        start=4 / 60,
        stop=34 / 60,
        transforms=[
            L(v2.RandomChoice)(
                transforms=[
                    L(v2.Compose)(transforms=_of_four),
                    L(v2.Compose)(transforms=_single),
                ],
                p=[0.5, 0.5],
            )
        ],
        pairs=[L(MixUp)(p=0.5, ratio=(0.45, 0.55))],
    ),
    L(Window)(start=34 / 60, stop=58 / 60, transforms=_single),
]
dataloader.train.aspect_ratio_grouping = False  # all images are squares

# Norms of the backbone learn as fast as the rest; all norms, but no biases, are free of decay.
optimizer.lr = 2e-4
optimizer.params.lr_factors = [
    dict(names=[".norm."], factor=1.0),
    dict(names=["backbone"], factor=0.1),
]
optimizer.params.update(weight_decay_norm=0.0, weight_decay_bias=None)

lr_multiplier = L(FlatCosine)(
    max_iter="${train.max_iter}", warmup=2000, flat=34 / 60, final=2 / 60, lowest=0.5
)

train.max_iter = "60ep"
train.reload_best = 58 / 60
train.amp.update(enabled=True, dtype="float16")
