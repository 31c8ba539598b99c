"""LW-DETR tiny, ViT-Ti with six blocks, 100 queries, 60 epochs.

    python projects/lw_detr/train_net.py --num-gpus 8 \
        --config-file projects/lw_detr/configs/lw_detr_tiny_60e_coco.py

Published: 42.6 AP (README of LW-DETR), from weights that were trained on Objects365; 32 images an
iteration.
"""

from detrex.config import get_config

from .lw_detr_small_60e_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/lw_detr_tiny_objects365.pth"

model.update(get_config("common/models/windowed_vit.py").lw_tiny)
model.update(num_queries=100, select_box_nums_for_evaluation=100)
