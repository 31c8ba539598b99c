"""Relation-DETR, R50, four levels, 12 epochs.

    python projects/relation_detr/train_net.py --num-gpus 8 \
        --config-file projects/relation_detr/configs/relation_detr_r50_12ep.py

Published: 51.7 AP (README of Relation-DETR); 16 images an iteration, 90,000 iterations.
"""

from detrex.config import get_recipe

from .models.relation_detr_r50 import model

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/coco_12ep.py")

# As released: the rate drops after 10 epochs; slow sampling offsets, no decay on norms and biases.
lr_multiplier.scheduler.milestones = [75000, 90000]
optimizer.params.lr_factors.append(dict(names=["sampling_offsets"], factor=0.1))
optimizer.params.weight_decay_bias = 0.0
