"""RF-DETR nano plus three parts of Rank-DETR, each with its switch: Align-DETR's class loss, which
RF-DETR has, has the place of the GIoU-aware one."""

from detectron2.config import LazyCall as L

from detrex.modeling.matcher import HighOrderMatcher
from projects.rank_detr.modeling.rank_family import RankLWDETRTransformerDecoder, RankRFDETR

from ....rf_detr.configs.models.rf_detr import model

model._target_ = RankRFDETR
model.rank_adaptive_classhead = True
model.transformer.decoder._target_ = RankLWDETRTransformerDecoder
model.transformer.decoder.update(
    num_queries="${...num_queries}",
    rank_adaptive_classhead="${...rank_adaptive_classhead}",
    query_rank_layer=True,
)
# High-order matching cost for the last quarter of training; None never switches.
model.criterion.matcher = L(HighOrderMatcher)(
    **model.criterion.matcher,
    iou_order_alpha=4.0,
    matcher_change_iter=0.75,
    max_iter="${train.max_iter}",
)
