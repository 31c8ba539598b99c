"""DINO, R50, four levels, 300 denoising pairs, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r50_4scale_12ep_300dn.py

Published: 49.5 AP (detrex model zoo); 16 images an iteration, 90,000
iterations.
"""

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.dn_number = 300
