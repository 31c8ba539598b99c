"""DINO, R101, four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-resnet/dino_r101_4scale_12ep.py

Published: none; 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_config

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/dino_r101_4scale_12ep"
dataloader.evaluator.output_dir = train.output_dir

model.update(get_config("common/models/multi_scale.py").r101)
train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-101.pkl"
