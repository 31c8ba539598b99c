"""DINO, Swin-T (224, ImageNet-22k), four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-swin/dino_swin_tiny_224_4scale_12ep.py

Published: 52.5 AP (detrex model zoo; 51.3 from ImageNet-1k); 16 images an iteration, 90,000
iterations.
"""

from detrex.config import get_config, get_recipe

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe(
    "common/recipes/coco_12ep.py", output_dir="./output/dino_swin_tiny_224_4scale_12ep"
)

train.init_checkpoint = "/path/to/swin_tiny_patch4_window7_224_22kto1k_finetune.pth"

model.update(get_config("common/models/multi_scale.py").swin_tiny)
model.backbone.drop_path_rate = 0.1
