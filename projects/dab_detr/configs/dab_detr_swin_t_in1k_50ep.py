"""DAB-DETR, Swin-T pre-trained on ImageNet-1k, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_swin_t_in1k_50ep.py

Set train.init_checkpoint to a Swin-T file. Published: none found; 375,000 iterations.
"""

from detrex.config import get_config

from .dab_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").swin_tiny)
train.init_checkpoint = "path/to/swin_tiny_patch4_window7_224.pth"
