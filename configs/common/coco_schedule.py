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


lr_multiplier_12ep = default_coco_scheduler(12, 11)
lr_multiplier_24ep = default_coco_scheduler(24, 20)
lr_multiplier_36ep = default_coco_scheduler(36, 30)
lr_multiplier_50ep = default_coco_scheduler(50, 40)
