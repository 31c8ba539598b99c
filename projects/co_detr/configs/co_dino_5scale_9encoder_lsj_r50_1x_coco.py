"""Co-DINO, R50, five levels, nine encoder layers, large-scale jitter, 12 epochs.

    python projects/co_detr/train_net.py --num-gpus 8 \
        --config-file projects/co_detr/configs/co_dino_5scale_9encoder_lsj_r50_1x_coco.py

Published: 52.6 AP (README of Co-DETR), with soft-NMS, which is not applied here; 16 images an
iteration, 90,000 iterations.
"""

from .co_dino_5scale_lsj_r50_1x_coco import dataloader, lr_multiplier, model, optimizer, train

model.transformer.encoder.num_layers = 9
