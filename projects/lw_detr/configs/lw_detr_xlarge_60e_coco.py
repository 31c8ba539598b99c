"""LW-DETR xlarge, ViT-B with ten blocks, two levels, a wider decoder, 60 epochs.

    python projects/lw_detr/train_net.py --num-gpus 8 \
        --config-file projects/lw_detr/configs/lw_detr_xlarge_60e_coco.py

Published: 58.3 AP (README of LW-DETR), from weights that were trained on Objects365; 16 images an
iteration.
"""

from detrex.config import get_config

from .lw_detr_large_60e_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/lw_detr_xlarge_objects365.pth"

model.update(get_config("common/models/windowed_vit.py").lw_xlarge)
optimizer.weight_decay = 1e-3
optimizer.params.backbone_layer_decay = 0.75
