"""A small DEIM, trained on the sample data on two CPU cores.

    python projects/deim/train_net.py \
        --config-file projects/deim/configs/deim_efficientnet_lite0_sample_data.py

Needs tools/make_sample_data.py and tools/make_sample_weights.py first. No published figure.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from torchvision.transforms import v2

from detrex.config import get_config, get_recipe
from detrex.train.schedules import FlatCosine

from .models.deim_r50vd import model

dataloader, _, optimizer, train = get_recipe("common/recipes/sample_data.py")

# DEIM's windows with tiles of half the side; digits must not be mirrored or turned.
dataloader.train.mapper = get_recipe("common/recipes/deim.py")[0].train.mapper
_mapper = dataloader.train.mapper
_mapper.transforms = [
    L(v2.SanitizeBoundingBoxes)(min_size=1),
    L(v2.Resize)(size=[256, 256]),
    L(v2.SanitizeBoundingBoxes)(min_size=1),
]
_of_four = _mapper.windows[0].transforms[0].transforms[0].transforms
_of_four[0].size = 128
_of_four[1].degrees = 0
dataloader.train.aspect_ratio_grouping = False
dataloader.test.mapper.augmentation = [L(T.Resize)(shape=[256, 256])]

lr_multiplier = L(FlatCosine)(
    max_iter="${train.max_iter}", warmup=0.05, flat=0.57, final=0.03, lowest=0.05
)

model.backbone = model.neck.input_shapes = None
model.merge_with(get_config("common/models/efficientnet_lite0.py").small_hybrid)
