"""RT-DETR, ResNet-50-vd, 72 epochs.

    python projects/rt_detr/train_net.py --num-gpus 4 \
        --config-file projects/rt_detr/configs/rtdetr_r50vd_6x_coco.py

Published: 53.1 AP (README of RT-DETR); 16 images an iteration on 4 GPUs. The backbone started from
ImageNet weights that timm does not have; those of its resnet50d fit after tools/convert_checkpoint.py.
"""

from detrex.config import get_config

from .models.rtdetr_r50vd import model

_recipe = get_config("common/recipes/rt_detr.py")
dataloader, lr_multiplier = _recipe.dataloader, _recipe.lr_multiplier
optimizer, train = _recipe.optimizer, _recipe.train

train.output_dir = "./output/rtdetr_r50vd_6x_coco"
dataloader.evaluator.output_dir = train.output_dir
train.init_checkpoint = "/path/to/resnet50d.pth"
