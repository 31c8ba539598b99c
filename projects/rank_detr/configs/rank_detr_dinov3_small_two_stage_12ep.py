"""Rank-DETR, DINOv3 ViT-S/16, 12 epochs.

    python projects/rank_detr/train_net.py --num-gpus 8 \
        --config-file projects/rank_detr/configs/rank_detr_dinov3_small_two_stage_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.modeling.backbone import timm_parts

from .rank_detr_r50_two_stage_12ep import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/vit_small_patch16_dinov3.lvd1689m.safetensors"
optimizer.params.lr_factors[0] = dict(names=["backbone.net"], factor=0.5)
optimizer.params.backbone_layer_decay = 0.7

model.update(timm_parts("vit_small_patch16_dinov3"))
