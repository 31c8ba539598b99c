"""DAB-DETR, Swin-B pre-trained on ImageNet-21k, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_swin_b_in21k_50ep.py

Published: none found; 16 images an iteration, 375,000 iterations.
"""

from detrex.config import get_config

from .dab_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").swin_base)
train.init_checkpoint = "detectron2://ImageNetPretrained/swin/swin_base_patch4_window7_224_22k.pth"
