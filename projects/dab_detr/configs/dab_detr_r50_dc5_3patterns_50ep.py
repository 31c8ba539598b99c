"""DAB-DETR, R50 with a dilated last stage, 3 patterns per anchor, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_r50_dc5_3patterns_50ep.py

Published: 45.7 AP (paper); 375,000 iterations.
"""

from .dab_detr_r50_dc5_50ep import dataloader, lr_multiplier, model, optimizer, train

model.position_embedding.temperature = 20
model.transformer.num_patterns = 3
