"""RF-DETR's defaults of fine-tuning: ``dataloader, lr_multiplier, optimizer, train``. 100 epochs at
batch 16; images become squares of the largest of nano's ``model.train_sizes``, batches squares of
one of them, and those of the validation set squares of the size that the backbone is for."""

from detectron2.config import LazyCall as L
from detectron2.data.transforms import Resize

from detrex.config import get_recipe

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/lw_detr.py")

_largest = L(Resize)(shape=[544, 544])
dataloader.train.mapper.augmentation[-1] = _largest
dataloader.train.mapper.augmentation_with_crop[-1] = _largest
dataloader.train.total_batch_size = 16
_side = "${model.backbone.model_options.img_size}"
dataloader.test.mapper.augmentation = [L(Resize)(shape=[_side, _side])]

train.max_iter = "100ep"
train.amp.update(enabled=True, dtype="bfloat16")
train.model_ema.update(decay=0.993, warmup=100)
