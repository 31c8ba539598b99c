"""DINO, R50, four levels, 24 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r50_4scale_24ep.py

Published: 50.6 AP (detrex model zoo); 16 images an iteration, 180,000
iterations.
"""

from detrex.config import get_config

from .dino_r50_4scale_12ep import dataloader, model, optimizer, train

lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_24ep
train.max_iter = 180000
dataloader.train.dataset.filter_empty = False
model.position_embedding.update(temperature=20, offset=0.0)
