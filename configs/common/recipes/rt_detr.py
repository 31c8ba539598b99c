"""72 epochs of COCO at batch 16 in squares of 640 pixels: ``dataloader, lr_multiplier, optimizer,
train``. The rate is constant; averaged weights are scored beside the last."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import ConstantParamScheduler
from torchvision.transforms import v2

from detrex.config import get_config
from detrex.data import TorchvisionMapper

dataloader = get_config("common/data/coco_detr.py").dataloader
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train

dataloader.train.mapper = L(TorchvisionMapper)(
    transforms=[
        L(v2.RandomPhotometricDistort)(p=0.5),
        L(v2.RandomZoomOut)(fill=0),
        L(v2.RandomApply)(transforms=[L(v2.RandomIoUCrop)()], p=0.8),
        L(v2.SanitizeBoundingBoxes)(min_size=1),
        L(v2.RandomHorizontalFlip)(),
        L(v2.Resize)(size=[640, 640]),
        L(v2.SanitizeBoundingBoxes)(min_size=1),
    ],
    img_format="RGB",
)
dataloader.train.dataset.filter_empty = False
dataloader.test.mapper.augmentation = [L(T.Resize)(shape=[640, 640])]

# A slow backbone; no decay on norms and biases.
optimizer.lr = 1e-4
optimizer.params.lr_factors = [dict(names=["backbone"], factor=0.1)]
optimizer.params.update(weight_decay_norm=0.0, weight_decay_bias=0.0)

lr_multiplier = L(ConstantParamScheduler)(value=1.0)

train.max_iter = "72ep"
train.clip_grad.enabled = True
train.eval_period = "1ep"
train.checkpointer.period = "1ep"
train.model_ema.update(enabled=True, decay=0.9999, warmup=2000)
