# The sample data (tools/make_sample_data.py) on two CPU cores, with the small backbone's weights
# (tools/make_sample_weights.py).
import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from detrex.config import get_config

dataloader = get_config("common/data/coco_detr.py").dataloader
optimizer = get_config("common/optim.py").AdamW_deformable
train = get_config("common/train.py").train

dataloader.dataset.name = "sample_data"
for _split in ("train", "val"):
    dataloader.dataset[_split].json = f"output/sample_data/{_split}.json"
    dataloader.dataset[_split].images = f"output/sample_data/{_split}"

# Digits must not be mirrored.
_resize = L(T.ResizeShortestEdge)(short_edge_length=256, max_size=512)
dataloader.train.mapper.update(augmentation=[_resize], augmentation_with_crop=None)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.mapper.augmentation = [_resize]
dataloader.test.update(batch_size=4, num_workers=1)

optimizer.lr = 1e-3
optimizer.params.lr_factors = [dict(names=["backbone"], factor=0.4)]
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.02),
    warmup_factor=0.02,
    warmup_length=0.05,
    warmup_method="linear",
)

train.init_checkpoint = "output/efficientnet_lite0.pth"
train.device = "cpu"
train.seed = 0
train.max_iter = 1000
train.clip_grad.enabled = True
train.eval_period = 500
train.checkpointer.period = 500
