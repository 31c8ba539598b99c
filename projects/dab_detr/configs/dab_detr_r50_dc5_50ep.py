"""DAB-DETR, R50 with a dilated last stage, 50 epochs.

    python projects/dab_detr/train_net.py --num-gpus 8 \
        --config-file projects/dab_detr/configs/dab_detr_r50_dc5_50ep.py

Published: 44.5 AP (paper); 375,000 iterations.
"""

from detrex.config import get_config

from .dab_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.update(get_config("common/models/single_scale.py").r50_dc5)
model.position_embedding.temperature = 10
train.init_checkpoint = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
