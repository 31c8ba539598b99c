"""Two-stage DAB-Deformable-DETR, R50, 50 epochs.

    python projects/dab_deformable_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_deformable_detr/configs/dab_deformable_detr_r50_two_stage_50ep.py

Published: 49.7 AP (detrex model zoo); 16 images an iteration, 375,000 iterations.
"""

from .dab_deformable_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.as_two_stage = True
