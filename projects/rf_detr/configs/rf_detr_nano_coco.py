"""RF-DETR nano, DINOv2 ViT-S with windows, images of 384 pixels, two decoder layers.

    python projects/rf_detr/train_net.py --num-gpus 4 \
        --config-file projects/rf_detr/configs/rf_detr_nano_coco.py

Published: 48.4 AP (README of RF-DETR); how those weights were trained is not. This is how the
package of RF-DETR tunes them: 16 images an iteration, 100 epochs.
"""

from detrex.config import get_recipe

from .models.rf_detr import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/rf_detr.py")

train.init_checkpoint = "/path/to/rf_detr_nano.pth"
