"""LW-DETR large, ViT-S with ten blocks, two levels, a wider decoder, 60 epochs.

    python projects/lw_detr/train_net.py --num-gpus 8 \
        --config-file projects/lw_detr/configs/lw_detr_large_60e_coco.py

Published: 56.1 AP (README of LW-DETR), from weights that were trained on Objects365; 16 images an
iteration.
"""

from detrex.config import get_config

from .lw_detr_medium_60e_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/lw_detr_large_objects365.pth"

model.update(get_config("common/models/windowed_vit.py").lw_large)
model.transformer.decoder.update(embed_dim=384, num_heads=12, num_feature_levels=2, num_points=4)
optimizer.params.lr_factors = [
    dict(names=["backbone"], factor=1.5 * 0.5**2),
    dict(names=["transformer.decoder"], factor=0.5),
]
