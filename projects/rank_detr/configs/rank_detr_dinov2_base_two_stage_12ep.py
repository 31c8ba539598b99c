"""Rank-DETR, DINOv2 ViT-B/14, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_dinov2_base_two_stage_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.modeling.backbone import timm_parts

from .rank_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/dinov2_vitb14_pretrain.pth"
optimizer.params.lr_factors[0] = dict(names=["backbone.net"], factor=0.5)
optimizer.params.backbone_layer_decay = 0.7

model.update(timm_parts("vit_base_patch14_dinov2", model_options=dict(drop_path_rate=0.1)))
