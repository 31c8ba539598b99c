"""DAC-DETR, R50, 900 queries, 24 epochs.

    python projects/dac_detr/train_net.py --num-gpus 8 \
        --config-file projects/dac_detr/configs/dac_detr_r50_24ep_focal.py

Published: 51.2 AP (README of DAC-DETR); 16 images an iteration, 180,000 iterations.
"""

from .dac_detr_r50_24ep import dataloader, lr_multiplier, model, optimizer, train

model.criterion.loss_class_type = "focal_loss"
model.criterion.weighted_boxes = []
model.criterion.weight_dict.loss_class = 2.0
