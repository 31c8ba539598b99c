"""DINO, R50, five levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r50_5scale_12ep.py

Published: 49.6 AP (detrex model zoo); 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_config

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/dino_r50_5scale_12ep"
dataloader.evaluator.output_dir = train.output_dir

model.update(get_config("common/models/multi_scale.py").r50_5scale)
model.transformer.num_feature_levels = 5
