"""DDQ with Rank-DETR's high-order matching cost, R50, 4 levels, 12 epochs.

    python projects/ddq_detr/train_net.py --num-gpus 8 \
        --config-file projects/ddq_detr/configs/ddq_detr_r50_4scale_12ep_high_order.py

No published figure: new here; 16 images an iteration, 90,000 iterations.
"""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import HighOrderMatcher

from .ddq_detr_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=0.75,
    max_iter="${train.max_iter}",
)
