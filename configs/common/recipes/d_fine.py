"""D-FINE: ``dataloader, lr_multiplier, optimizer, train``. RT-DETR's recipe at twice its batch,
with a warm-up, averaged weights that follow sooner, and mixed precision."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler

from .rt_detr import dataloader, lr_multiplier, optimizer, train

dataloader.train.total_batch_size = 32

optimizer.update(lr=2.5e-4, weight_decay=1.25e-4)
optimizer.params.lr_factors[0].factor = 0.05
optimizer.params.weight_decay_bias = None  # as weights; only norms have none

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=lr_multiplier, warmup_factor=0.0, warmup_length=500, warmup_method="linear"
)

train.max_iter = "80ep"
train.amp.enabled = True
train.model_ema.warmup = 1000
