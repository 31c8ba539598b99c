"""Images of 480 pixels, four an iteration, on one GPU, a laptop or a CPU: ``dataloader,
lr_multiplier, optimizer, train``. Images are mirrored, cropped and resized, as in DETR's recipe."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train


def _resize(short_edges):
    return L(T.ResizeShortestEdge)(
        short_edge_length=short_edges, max_size=800, sample_style="choice"
    )


_edges = [352, 384, 416, 448, 480, 512]
dataloader.train.mapper.update(
    augmentation=[L(T.RandomFlip)(), _resize(_edges)],
    augmentation_with_crop=[
        L(T.RandomFlip)(),
        _resize([400, 500, 600]),
        L(T.RandomCrop)(crop_type="absolute_range", crop_size=[256, 448]),
        _resize(_edges),
    ],
)
dataloader.test.mapper.augmentation = [_resize([480])]
dataloader.train.update(total_batch_size=4, num_workers=2)
dataloader.test.num_workers = 2

optimizer.lr = 1e-3
optimizer.params.lr_factors = [dict(names=["backbone"], factor=0.4)]
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.02),
    warmup_factor=0.02,
    warmup_length=0.05,
    warmup_method="linear",
)

train.max_iter = "24ep"
train.clip_grad.enabled = True
train.eval_period = train.checkpointer.period = "1ep"
