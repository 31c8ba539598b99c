"""DEIM with Rank-DETR's high-order matching cost at the end, ResNet-50-vd, 60 epochs.

    python projects/deim/train_net.py --num-gpus 4 \
        --config-file projects/deim/configs/deim_r50vd_60e_high_order_coco.py

New here: no published figure. DEIMv2 changes its matching to score * IoU^4 as late (after 74 to 90 %
of its epochs; its README: 90 % of those with augmentation).
"""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import HighOrderMatcher

from .deim_r50vd_60e_coco import dataloader, lr_multiplier, model, optimizer, train

model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=0.9 * 58 / 60,
    max_iter="${train.max_iter}",
)
