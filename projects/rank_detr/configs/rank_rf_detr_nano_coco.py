"""Rank-DETR on RF-DETR nano, images of 384 pixels, two decoder layers.

    python projects/rank_detr/train_net.py --num-gpus 4 \
        --config-file projects/rank_detr/configs/rank_rf_detr_nano_coco.py

No published figure: new here; 16 images an iteration, 100 epochs.
"""

from ...rf_detr.configs.rf_detr_nano_coco import dataloader, lr_multiplier, optimizer, train
from .models.rank_rf_detr import model
