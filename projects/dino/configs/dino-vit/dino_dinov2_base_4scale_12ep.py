"""DINO, DINOv2 ViT-B/14, four levels, 12 epochs.

    python projects/dino/train_net.py --num-gpus 8 \
        --config-file projects/dino/configs/dino-vit/dino_dinov2_base_4scale_12ep.py

No published figure; 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe
from detrex.modeling.backbone import timm_parts

from ..models.dino_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

train.init_checkpoint = "/path/to/dinov2_vitb14_pretrain.pth"
optimizer.params.update(lr_factors=[], backbone_layer_decay=0.7)

model.update(timm_parts("vit_base_patch14_dinov2", model_options=dict(drop_path_rate=0.1)))
