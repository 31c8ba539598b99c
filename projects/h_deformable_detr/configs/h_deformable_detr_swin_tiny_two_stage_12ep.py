"""Two-stage H-Deformable-DETR, Swin-T (ImageNet-1k), 12 epochs.

    python projects/h_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/h_deformable_detr/configs/h_deformable_detr_swin_tiny_two_stage_12ep.py

Published: 50.6 AP (README of H-Deformable-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_config

from .h_deformable_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/h_deformable_detr_swin_tiny_two_stage_12ep"
dataloader.evaluator.output_dir = train.output_dir
train.init_checkpoint = "/path/to/swin_tiny_patch4_window7_224.pth"

model.update(get_config("common/models/multi_scale.py").swin_tiny)
