"""DINO, Swin-L (384, ImageNet-22k), four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-swin/dino_swin_large_384_4scale_12ep.py

Published: 56.9 AP (detrex model zoo); 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_config

from .dino_swin_tiny_224_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/dino_swin_large_384_4scale_12ep"
dataloader.evaluator.output_dir = train.output_dir
train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22kto1k.pth"

model.update(get_config("common/models/multi_scale.py").swin_large_384)
