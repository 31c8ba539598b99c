from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from detrex.config import get_config
from tests.train.tiny import TinyDetector

model = L(TinyDetector)(num_classes=2)

dataloader = get_config("common/data/coco_detr.py").dataloader
dataloader.dataset.name = "tiny"
dataloader.train.mapper.augmentation = [L(T.RandomFlip)()]
dataloader.train.mapper.augmentation_with_crop = None
dataloader.test.mapper.augmentation = [L(T.NoOpTransform)()]
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0

optimizer = get_config("common/optim.py").AdamW_deformable
optimizer.params.lr_factors[1].names = ["reference_points"]
optimizer.lr = 0.01

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep

train = get_config("common/train.py").train
train.output_dir = "output/tiny"
train.max_iter = 8
train.clip_grad.enabled = True
train.eval_period = 0
train.checkpointer.period = 4
train.log_period = 2
train.device = "cpu"
train.seed = 7
