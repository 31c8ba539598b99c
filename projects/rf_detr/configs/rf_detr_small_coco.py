"""RF-DETR small, DINOv2 ViT-S with windows, images of 512 pixels, three decoder layers.

    python projects/rf_detr/train_net.py --num-gpus 4 \
        --config-file projects/rf_detr/configs/rf_detr_small_coco.py

Published: 53.0 AP (README of RF-DETR), as for nano.
"""

from .rf_detr_nano_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/rf_detr_small.pth"

for _name in ("augmentation", "augmentation_with_crop"):
    dataloader.train.mapper[_name][-1].shape = [672, 672]

model.backbone.model_options.img_size = 512
model.train_sizes = [*range(352, 673, 32)]
model.transformer.decoder.num_layers = 3
