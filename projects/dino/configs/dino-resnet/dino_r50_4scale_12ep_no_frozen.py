"""DINO, R50, four levels, no frozen backbone stage, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r50_4scale_12ep_no_frozen.py

Published: none for this setting alone; 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_config

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, train

# These figures were trained with twice the learning rate, 0.1x on reference points and sampling
# offsets, and decay on norms too (upstream: in its train_net.py, the config's own is ignored).
optimizer = get_config("common/optim.py").AdamW_deformable
model.backbone.freeze_at = -1
