"""LW-DETR medium, ViT-S with ten blocks, 60 epochs.

    python projects/lw_detr/train_net.py --num-gpus 8 \
        --config-file projects/lw_detr/configs/lw_detr_medium_60e_coco.py

Published: 52.5 AP (README of LW-DETR), from weights that were trained on Objects365; 16 images an
iteration.
"""

from detrex.config import get_config

from .lw_detr_small_60e_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/lw_detr_medium_objects365.pth"

model.update(get_config("common/models/windowed_vit.py").lw_medium)
dataloader.train.total_batch_size = 16
optimizer.params.backbone_layer_decay = 0.7
