from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

# COCO train2017 at batch 16. The schedules are relative to train.max_iter: with another batch size
# or data set only max_iter changes, and the drop keeps its place.
_ITERATIONS_PER_EPOCH = 7500


def default_coco_scheduler(epochs=50, decay_epochs=40, warmup_epochs=0):
    """Learning rate x0.1 after ``decay_epochs`` of ``epochs``; linear warm-up from x0.001."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1],
            milestones=[decay_epochs * _ITERATIONS_PER_EPOCH, epochs * _ITERATIONS_PER_EPOCH],
        ),
        warmup_length=warmup_epochs / epochs,
        warmup_method="linear",
        warmup_factor=0.001,
    )


def default_X_scheduler(num_X):
    """Learning rate x0.1 twice, for detectron2's 1x, 3x ... (1x: 90,000 iterations at batch 16):
    after 2/3 and 8/9 up to 2x, then 60,000 and 20,000 iterations before the end; warm-up over
    1,000."""
    total = num_X * 90000
    drops = (total - 60000, total - 20000) if num_X > 2 else (total * 2 // 3, total * 8 // 9)
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=[*drops, total]),
        warmup_length=1000 / total,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_1x = default_X_scheduler(1)
lr_multiplier_2x = default_X_scheduler(2)
lr_multiplier_3x = default_X_scheduler(3)
lr_multiplier_6x = default_X_scheduler(6)
lr_multiplier_9x = default_X_scheduler(9)

lr_multiplier_12ep = default_coco_scheduler(12, 11)
lr_multiplier_24ep = default_coco_scheduler(24, 20)
lr_multiplier_36ep = default_coco_scheduler(36, 30)
lr_multiplier_50ep = default_coco_scheduler(50, 40)

lr_multiplier_12ep_warmup = default_coco_scheduler(12, 11, 1e-3)
lr_multiplier_24ep_warmup = default_coco_scheduler(24, 20, 1e-3)
lr_multiplier_36ep_warmup = default_coco_scheduler(36, 30, 1e-3)
lr_multiplier_50ep_warmup = default_coco_scheduler(50, 40, 1e-3)
