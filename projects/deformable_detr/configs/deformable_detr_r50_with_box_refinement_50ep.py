"""Deformable DETR with iterative box refinement, R50, 50 epochs.

    python projects/deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/deformable_detr/configs/deformable_detr_r50_with_box_refinement_50ep.py

Published: 47.0 AP (detrex model zoo); 8 GPUs, 16 images an iteration, 375,000 iterations.
"""

from .deformable_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.with_box_refine = True
