"""DINO, DINOv3 ViT-S/16 under a spatial adapter, four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-vit/dino_dinov3_small_adapter_4scale_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.modeling.backbone import adapter_parts

from .dino_dinov3_small_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.update(adapter_parts("vit_small_patch16_dinov3"))
