"""DDQ-DETR, R50, 4 levels, 12 epochs.

    python projects/ddq_detr/train_net.py --num-gpus 8 \
        --config-file projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep.py

Published: 51.3 AP (README of DDQ), 51.4 (mmdetection); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe

from .models.ddq_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

# As released: images without objects, 2,000 iterations of warm-up, decay on norms, too.
dataloader.train.dataset.filter_empty = False
lr_multiplier.update(warmup_length=2000 / 90000, warmup_factor=1e-4)
optimizer.update(lr=2e-4, weight_decay=0.05)
optimizer.params.weight_decay_norm = None
