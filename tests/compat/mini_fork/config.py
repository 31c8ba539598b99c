from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver.build import get_default_optimizer_params
from omegaconf import OmegaConf
from torch import nn
from torch.optim import AdamW

from detrex.config import get_config
from detrex.layers import PositionEmbeddingSine
from detrex.modeling.neck import ChannelMapper
from tests.compat.mini_fork.data import ClassCounter, two_batches
from tests.compat.mini_fork.modeling import (
    MiniCriterion,
    MiniDecoder,
    MiniDETR,
    MiniEncoder,
    MiniMatcher,
    MiniTransformer,
)

model = L(MiniDETR)(
    position_embedding=L(PositionEmbeddingSine)(num_pos_feats=8, normalize=True),
    neck=L(ChannelMapper)(
        input_shapes={"res5": ShapeSpec(channels=8)},
        in_features=["res5"],
        out_channels=16,
        kernel_size=1,
        norm_layer=L(nn.GroupNorm)(num_groups=4, num_channels=16),
    ),
    transformer=L(MiniTransformer)(
        encoder=L(MiniEncoder)(), decoder=L(MiniDecoder)(return_intermediate=True)
    ),
    criterion=L(MiniCriterion)(
        num_classes="${..num_classes}",
        matcher=L(MiniMatcher)(),
        weight_dict={"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0},
    ),
    num_classes=3,
)
weights = model.criterion.weight_dict
weights.update({f"{name}_0": value for name, value in weights.items()})

dataloader = OmegaConf.create()
dataloader.train = L(two_batches)()
dataloader.test = L(two_batches)(train=False)
dataloader.evaluator = L(ClassCounter)()

optimizer = L(AdamW)(params=L(get_default_optimizer_params)(base_lr="${..lr}"), lr=1e-3)
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_12ep
train = get_config("common/train.py").train
train.max_iter = 2
train.eval_period = 2
train.log_period = 1
train.device = "cpu"
train.model_ema.enabled = True
