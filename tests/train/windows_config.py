"""The tiny detector with augmentation in windows, from iteration 2 to 6 of 8."""

from detectron2.config import LazyCall as L
from torchvision.transforms import v2

from detrex.data import CopyBlend, MixUp, Mosaic, TorchvisionMapper, Window
from detrex.train.schedules import FlatCosine

from .tiny_config import dataloader, model, optimizer, train

model.dropout = 0.3
optimizer.lr = 0.05

dataloader.train.mapper = L(TorchvisionMapper)(
    transforms=[L(v2.Resize)(size=[16, 16])],
    windows=[
        L(Window)(
            start="0.67ep",
            stop="1.33ep",
            transforms=[
                L(v2.RandomChoice)(
                    transforms=[L(Mosaic)(size=8), L(v2.RandomPhotometricDistort)()], p=[0.5, 0.5]
                )
            ],
            pairs=[L(MixUp)(p=0.7)],
        ),
        L(Window)(start=0.5, stop=0.75, pairs=[L(CopyBlend)(p=0.9, min_area=4)]),
    ],
)
lr_multiplier = L(FlatCosine)(
    max_iter="${train.max_iter}", warmup=2, flat=0.5, final=0.25, lowest=0.0
)
train.accumulation_steps = 2
train.eval_period = 2
train.checkpointer.period = 2
train.model_ema.update(enabled=True, warmup=3)
train.reload_best = 0.75
