"""Mr. DETR-Align, Swin-L (384, ImageNet-22k), four levels, 900 queries, 12 epochs.

    python projects/mr_detr/train_net.py --num-gpus 8 \
        --config-file projects/mr_detr_align/configs/deformable_detr_swinl_two_stage_12ep_plusplus.py

Published: 58.4 AP (README of Mr. DETR); 16 images an iteration, 90,000 iterations. The README gives the
weight decay; which of the Swin-L weights it starts from is our choice.
"""

from detrex.config import get_config

from .deformable_detr_r50_two_stage_12ep_plusplus import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22k.pth"
optimizer.weight_decay = 0.05
model.update(get_config("common/models/multi_scale.py").swin_large_384)
