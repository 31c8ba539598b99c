"""RF-DETR large, DINOv2 ViT-S with windows, images of 704 pixels, four decoder layers.

    python projects/rf_detr/train_net.py --num-gpus 4 \
        --config-file projects/rf_detr/configs/rf_detr_large_coco.py

Published: 56.5 AP (README of RF-DETR), as for nano.
"""

from .rf_detr_nano_coco import dataloader, lr_multiplier, model, optimizer, train

train.init_checkpoint = "/path/to/rf_detr_large.pth"

for _name in ("augmentation", "augmentation_with_crop"):
    dataloader.train.mapper[_name][-1].shape = [864, 864]

model.backbone.model_options.img_size = 704
model.train_sizes = [*range(544, 865, 32)]
model.transformer.decoder.num_layers = 4
