"""DAC-DETR, Swin-L (384, ImageNet-22k), 900 queries, 12 epochs.

    python projects/dac_detr/train_net.py --num-gpus 8 \
        --config-file projects/dac_detr/configs/dac_detr_swin_large_12ep_focal.py

Published: 57.3 AP (README of DAC-DETR); 16 images an iteration, 90,000 iterations.
"""

from .dac_detr_swin_large_12ep import dataloader, lr_multiplier, model, optimizer, train

model.criterion.loss_class_type = "focal_loss"
model.criterion.weighted_boxes = []
model.criterion.weight_dict.loss_class = 2.0
