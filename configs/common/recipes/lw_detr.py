"""LW-DETR: ``dataloader, lr_multiplier, optimizer, train``. 60 epochs of COCO at batch 32 and a
constant rate; every image becomes a square of its own size. Averaged weights are scored beside the
last."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import ConstantParamScheduler

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train

_squares = L(T.RandomResize)(shape_list=[[side, side] for side in range(448, 897, 64)])
dataloader.train.mapper.augmentation[-1] = _squares
dataloader.train.mapper.augmentation_with_crop[-1] = _squares
dataloader.train.dataset.filter_empty = False
dataloader.train.total_batch_size = 32
dataloader.test.mapper.augmentation = [L(T.Resize)(shape=[640, 640])]

# 1.5e-4 * 0.7^2 for the last block of the backbone's, 0.8 of it for the block before, and so on;
# 0.7 for the decoder.
optimizer.lr = 1e-4
optimizer.params.update(
    lr_factors=[
        dict(names=["backbone"], factor=1.5 * 0.7**2),
        dict(names=["transformer.decoder"], factor=0.7),
    ],
    backbone_layer_decay=0.8,
    weight_decay_norm=0.0,
    weight_decay_bias=0.0,
)

lr_multiplier = L(ConstantParamScheduler)(value=1.0)

train.max_iter = "60ep"
train.clip_grad.enabled = True
train.eval_period = "1ep"
train.checkpointer.period = "1ep"
train.model_ema.update(enabled=True, decay=0.9997)
